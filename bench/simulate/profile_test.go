package simulate

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestParseProfile(t *testing.T) {
	base := Profile{}.withDefaults()
	with := func(change func(*Profile)) Profile { p := base; change(&p); return p }
	tests := []struct {
		header string
		want   Profile
		err    string
	}{
		{"", base, ""},
		{" , ,", base, ""},
		{"ttft=150ms,gap=20,events=200,size=180", with(func(p *Profile) {
			p.TTFT, p.Gap, p.Events, p.Size = 150*time.Millisecond, 20*time.Millisecond, 200, 180
		}), ""},
		{"head=0, jitter=1.5ms , hold=2s", with(func(p *Profile) { p.Head, p.Jitter, p.Hold = 1, 1500*time.Microsecond, 2*time.Second }), ""},
		{"prompt=0,cached=4,error=529,retry=2", with(func(p *Profile) { p.Prompt, p.Cached, p.Error, p.Retry = 0, 4, 529, 2 }), ""},
		{"stall=head,cut=0,fail=3", with(func(p *Profile) { p.Stall, p.Cut, p.Fail = BeforeHead, After(0), After(3) }), ""},
		{"reset,burst=true,onewrite=1,nodone=1", with(func(p *Profile) { p.Reset, p.Burst, p.OneWrite, p.NoDone = true, true, true, true }), ""},
		{"burst=1,burst=0,id=a-b_c.9", with(func(p *Profile) { p.ID = "a-b_c.9" }), ""},
		{"evnts=3", base, `X-Simulate evnts="3": unknown key`},
		{"events=-1", base, `X-Simulate events="-1": want a number from 0 to 1000000`},
		{"size=1e3", base, `X-Simulate size="1e3": want a number from 0 to 67108864`},
		{"error=200", base, `X-Simulate error="200": want a number from 400 to 599`},
		{"ttft=11m", base, `X-Simulate ttft="11m": want 0 to 10m0s`},
		{"ttft=-5", base, `X-Simulate ttft="-5": want 0 to 10m0s`},
		{"gap=fast", base, `X-Simulate gap="fast": want a duration like 150ms`},
		{"stall=tail", base, `X-Simulate stall="tail": want a number of events or head`},
		{"burst=yes", base, `X-Simulate burst="yes": want 1 or 0`},
		{"id=a\r\nb", base, `X-Simulate id="a\r\nb": want A-Z a-z 0-9 . _ -`},
		{"id=", base, `X-Simulate id="": want 1 to 64 characters`},
	}
	for _, tt := range tests {
		got, err := ParseProfile(base, []byte(tt.header))
		if got != tt.want || err == nil && tt.err != "" || err != nil && err.Error() != tt.err {
			t.Errorf("%q\ngot  %+v, %v\nwant %+v, %s", tt.header, got, err, tt.want, tt.err)
		}
	}
}

func FuzzParseProfile(f *testing.F) {
	for _, s := range []string{
		"ttft=150ms,gap=20ms,events=200,size=180,jitter=5ms,error=429,stall=5,cut=head,prompt=9,burst=1,onewrite=1,hold=2s",
		"=,,=", "events=1000001", "id=a,id=", "gap=9223372036854775807", "retry=1,reset,fail=0",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		base := Profile{}.withDefaults()
		p, err := ParseProfile(base, []byte(header))
		if err != nil {
			if p != base || !strings.HasPrefix(err.Error(), "X-Simulate ") {
				t.Fatalf("%+v, %v", p, err)
			}
			return
		}
		for _, d := range []time.Duration{p.TTFT, p.Head, p.Gap, p.Jitter, p.Hold} {
			if d < 0 || d > maxDuration {
				t.Fatalf("%s out of bounds in %+v", d, p)
			}
		}
		if p.Events < 0 || p.Events > maxEvents || p.Size < 0 || p.Size > maxSize || p.Error != 0 && (p.Error < 400 || p.Error > 599) {
			t.Fatalf("out of bounds: %+v", p)
		}
	})
}

func FuzzParseHead(f *testing.F) {
	f.Add([]byte("POST /v1/chat/completions?key=a HTTP/1.1\r\nAuthorization: Bearer k\r\nContent-Length: 5\r\nX-Simulate: events=1\r\n"))
	f.Add([]byte("GET /sim/stats HTTP/1.0\r\nConnection: close\r\n"))
	f.Add([]byte("POST /v1beta/models/a%2Fb:streamGenerateContent?alt=sse HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var h head
		if err := parseHead(b, &h); err == nil && h.internal == "" && h.route.shape == nil {
			t.Fatalf("a head without a route: %q", b)
		}
	})
}

func TestAProfileOutOfBoundsIsRefusedAtTheStart(t *testing.T) {
	for want, p := range map[string]Profile{
		"jitter -5ms: want 0 to 10m0s":                              {Jitter: -5 * time.Millisecond},
		"jitter 2000000h0m0s: want 0 to 10m0s":                      {Jitter: 2000000 * time.Hour},
		"ttft -1s: want 0 to 10m0s":                                 {TTFT: -time.Second},
		"gap -1s: want 0 to 10m0s":                                  {Gap: -time.Second},
		"prompt -5: want 0 to 1073741824":                           {Prompt: -5},
		"sigma -3: want a number above 0, at most 3":                {Sigma: -3},
		"error 200: want a status from 400 to 599":                  {Error: 200},
		"events=1000,size=60000000: an answer of more than 256 MiB": {Events: 1000, Size: 60_000_000},
		"events 1000001: want 0 to 1000000":                         {Events: maxEvents + 1},
	} {
		var usage usageError
		if _, err := New(Options{Profile: p}); err == nil || err.Error() != want || !errors.As(err, &usage) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	a := &answer{profile: Profile{}.withDefaults(), id: "x", model: `"m"`, usage: true}
	c := &conn{answer: *a}
	c.event, c.out = make([]byte, 0, 4096), make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() {
		c.event = chatContent(c.event[:0], a, 7, Now())
		c.out = c.out[:0]
		c.frame()
	}); n != 0 {
		t.Errorf("%v allocations per event", n)
	}
	head := []byte("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\nX-Simulate: events=1\r\nContent-Length: 5\r\n")
	if n := testing.AllocsPerRun(100, func() {
		if err := parseHead(head, &c.head); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations per head", n)
	}
}
