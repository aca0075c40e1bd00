package pool

import (
	"sync"
	"testing"

	"streamrelay/configs"
)

func TestUpstreamSaysWhereItIs(t *testing.T) {
	for _, c := range []struct{ base, host, path, addr string }{
		{"https://api.openai.com/v1", "api.openai.com", "/v1", "api.openai.com:443"},
		{"http://api.openai.com/v1/", "api.openai.com", "/v1", "api.openai.com:80"},
		{"http://127.0.0.1:8080", "127.0.0.1:8080", "", "127.0.0.1:8080"},
		{"http://127.0.0.1:8080/", "127.0.0.1:8080", "", "127.0.0.1:8080"},
		{"https://h:8443/a/b%2Fc//", "h:8443", "/a/b%2Fc", "h:8443"},
		{"https://[::1]/v1", "[::1]", "/v1", "[::1]:443"},
		{"https://[::1]:9/v1", "[::1]:9", "/v1", "[::1]:9"},
	} {
		u := upstreamOf(t, c.base, &Buffers{}, nil)
		if u.Host != c.host || u.Path != c.path || u.client.Addr != c.addr {
			t.Errorf("%s: host %q, path %q, address %q; want %q, %q, %q", c.base, u.Host, u.Path, u.client.Addr, c.host, c.path, c.addr)
		}
		if u.Index != 3 || u.Name != "up" {
			t.Errorf("%d %q", u.Index, u.Name)
		}
	}
	if _, err := NewUpstream(0, &configs.Upstream{Name: "up", BaseURL: "http://h:x"}, &Buffers{}); err == nil {
		t.Error("a base_url that is none")
	}
}

func TestUpstreamHeadersAreReadyLines(t *testing.T) {
	u := upstreamOf(t, "http://h", &Buffers{}, func(c *configs.Upstream) {
		c.Headers = configs.Headers{Set: map[string]configs.Secret{"X-Org": configs.NewSecret("acme")}, Remove: []string{"X-Stainless-Lang"}}
	})
	if string(u.Set) != "X-Org: acme\r\n" {
		t.Errorf("set %q", u.Set)
	}
	if len(u.Remove) != 2 || u.Remove[0] != "x-org" || u.Remove[1] != "x-stainless-lang" {
		t.Errorf("remove %q", u.Remove)
	}
}

func TestCredentialIsPresentedAsTheDialectWants(t *testing.T) {
	c := Credential{value: "sk-1"}
	for d, want := range map[configs.Dialect]string{
		configs.OpenAI: "Authorization: Bearer sk-1\r\n", configs.Anthropic: "x-api-key: sk-1\r\n",
		configs.Azure: "api-key: sk-1\r\n", configs.Gemini: "x-goog-api-key: sk-1\r\n",
	} {
		if got := string(c.AppendTo([]byte("Host: h\r\n"), d)); got != "Host: h\r\n"+want {
			t.Errorf("%s: %q", d, got)
		}
	}
}

// TestCredentialsTakeTurnsByWeight counts over whole rounds, in which each comes
// exactly as often as its weight says.
func TestCredentialsTakeTurnsByWeight(t *testing.T) {
	for _, c := range []struct {
		name    string
		weights []int
		want    []int // in one round
	}{
		{"none", nil, nil},
		{"one", []int{1}, []int{1}},
		{"one of any weight", []int{9}, []int{9}},
		{"no weight is one", []int{0, 0}, []int{1, 1}},
		{"five to one to two", []int{5, 1, 2}, []int{5, 1, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := upstreamOf(t, "http://h", &Buffers{}, func(cfg *configs.Upstream) {
				for i, w := range c.weights {
					cfg.Credentials = append(cfg.Credentials, configs.Credential{Value: configs.NewSecret("sk-" + string(rune('a'+i))), Weight: w})
				}
			})
			if c.want == nil {
				if u.Credential() != nil {
					t.Error("a credential where none is configured")
				}
				return
			}
			round := 0
			for _, n := range c.want {
				round += n
			}
			const rounds = 8 * 100
			got := make([]int, len(c.want))
			var mu sync.Mutex
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					mine := make([]int, len(got))
					for range rounds / 8 * round {
						k := u.Credential()
						mine[k.Index]++
						if want := "sk-" + string(rune('a'+k.Index)); k.value != want {
							t.Errorf("credential %d is %q", k.Index, k.value)
						}
					}
					mu.Lock()
					defer mu.Unlock()
					for i, n := range mine {
						got[i] += n
					}
				})
			}
			wg.Wait()
			for i, n := range c.want {
				if got[i] != n*rounds {
					t.Errorf("credential %d was chosen %d times in %d rounds, want %d", i, got[i], rounds, n*rounds)
				}
			}
		})
	}
}

func TestChoosingACredentialAllocatesNothing(t *testing.T) {
	u := upstreamOf(t, "http://h", &Buffers{}, func(c *configs.Upstream) {
		c.Credentials = []configs.Credential{{Value: configs.NewSecret("a"), Weight: 2}, {Value: configs.NewSecret("b"), Weight: 1}}
	})
	line := make([]byte, 0, 100)
	if n := testing.AllocsPerRun(1000, func() { line = u.Credential().AppendTo(line[:0], configs.OpenAI) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestCloseIdleClosesWhatNobodyUses(t *testing.T) {
	p := listen(t)
	u := upstreamOf(t, "http://"+p.addr, &Buffers{}, nil)
	a, b := acquire(t, u), acquire(t, u)
	a.Release()
	u.CloseIdle()
	if open, idle := u.Connections(); open != 1 || idle != 0 {
		t.Errorf("%d open, %d idle", open, idle)
	}
	if !b.Alive() {
		t.Error("closed one that is in use")
	}
	b.Discard()
}
