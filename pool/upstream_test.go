package pool

import (
	"context"
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
	if _, err := newUpstream(context.Background(), 0, &configs.Upstream{Name: "up", BaseURL: "http://h:x"}, nil, &Buffers{}, nil); err == nil {
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
	for d, want := range map[configs.Dialect]string{
		configs.OpenAI: "Authorization: Bearer sk-1\r\n", configs.Anthropic: "x-api-key: sk-1\r\n",
		configs.Azure: "api-key: sk-1\r\n", configs.Gemini: "x-goog-api-key: sk-1\r\n",
	} {
		for value, want := range map[string]string{"sk-1": want, "": ""} {
			u := upstreamOf(t, "http://h", &Buffers{}, func(c *configs.Upstream) {
				c.Dialect = d
				if value != "" {
					c.Credentials = []configs.Credential{{Value: configs.NewSecret(value)}}
				}
			})
			if got := string(u.Credentials[0].AppendTo([]byte("Host: h\r\n"), false)); got != "Host: h\r\n"+want {
				t.Errorf("%s: %q", d, got)
			}
		}
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

func TestAnExchangeThatOutlivesItsUpstreamLeavesNoConnection(t *testing.T) {
	p := listen(t)
	u := upstreamOf(t, "http://"+p.addr, &Buffers{}, nil)
	a := acquire(t, u)
	u.close() // as a reload that changed it does
	if !a.Alive() {
		t.Error("closed one that is in use")
	}
	a.Release()
	if open, idle := u.Connections(); open != 0 || idle != 0 {
		t.Errorf("%d open, %d idle", open, idle)
	}
}
