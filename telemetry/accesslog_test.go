package telemetry

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// accessLines returns the access lines of the exchanges.
func accessLines(t *testing.T, level string, requests ...*Request) string {
	t.Helper()
	var s sink
	l := NewLog(&s, level)
	o := options()
	o.Log, o.Access = l, true
	tel := New(o)
	for _, r := range requests {
		tel.Observe(r)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return s.all()
}

func TestAccessLine(t *testing.T) {
	const head = `{"level":"info","time":"2026-11-23T18:30:03.450Z","request_id":"req-1","id":"019ab2c3-d4e5-7001-80ff-010203040506",`
	for _, c := range []struct {
		name   string
		change func(*Request)
		want   string
	}{
		{
			"a good stream", nil,
			head + `"tenant":"acme","key_id":"k7","method":"POST","path":"/v1/chat/completions","endpoint":"chat_completions",` +
				`"upstream":"alpha","model":"m1","status":200,"end":"completed","stream":true,"ttft_ms":100,"duration_ms":3200,` +
				`"tokens_in":12,"tokens_out":30,"tokens_cached":4,"events":4,"bytes_in":120,"bytes_out":4096,` +
				`"client":"192.0.2.7","attempts":1,"message":"request"}`,
		},
		{
			"a traced one, with the provider's own id",
			func(r *Request) {
				r.TraceID = [16]byte{0x0a, 0xf7, 15: 0x9c}
				r.UpstreamRequestID = []byte("req_\"1")
			},
			head + `"trace_id":"0af7000000000000000000000000009c","tenant":"acme","key_id":"k7","method":"POST","path":"/v1/chat/completions","endpoint":"chat_completions",` +
				`"upstream":"alpha","model":"m1","status":200,"end":"completed","stream":true,"ttft_ms":100,"duration_ms":3200,` +
				`"tokens_in":12,"tokens_out":30,"tokens_cached":4,"events":4,"bytes_in":120,"bytes_out":4096,` +
				`"client":"192.0.2.7","upstream_request_id":"req_\"1","attempts":1,"message":"request"}`,
		},
		{
			"a cut one",
			func(r *Request) {
				r.End, r.UsageSource, r.TTFT, r.Error = UpstreamCut, UsagePartial, 1234567, "upstream_cut"
				r.Usage.Cached, r.Usage.Reasoning, r.Usage.CacheWrite = -1, 2, 0
			},
			head + `"tenant":"acme","key_id":"k7","method":"POST","path":"/v1/chat/completions","endpoint":"chat_completions",` +
				`"upstream":"alpha","model":"m1","status":200,"end":"upstream_cut","error":"upstream_cut","stream":true,"ttft_ms":1.234,"duration_ms":3200,` +
				`"tokens_in":12,"tokens_out":30,"tokens_cache_write":0,"tokens_reasoning":2,"tokens_partial":true,"events":4,` +
				`"bytes_in":120,"bytes_out":4096,"client":"192.0.2.7","attempts":1,"message":"request"}`,
		},
		{
			"a refused one, from a hostile client",
			func(r *Request) {
				id, begin, d := r.ID, r.Start, r.Duration
				*r = Request{
					ID: id, RequestID: []byte("req-1"), Start: begin, Duration: d, Endpoint: 7, Upstream: -1,
					Method: []byte("G\"ET\n"), Path: []byte("/\x00\xff\u2028"), Model: []byte(strings.Repeat("é", 100)),
					Status: 502, UpstreamStatus: 401, End: 250, Error: "upstream_auth", Client: netip.MustParseAddr("2001:db8::1"),
				}
			},
			head + `"method":"G\"ET\n","path":"/\u0000\ufffd` + "\u2028" + `","endpoint":"other","model":"` + strings.Repeat("é", 64) +
				`","status":502,"upstream_status":401,"end":"internal","error":"upstream_auth","duration_ms":3200,` +
				`"bytes_in":0,"bytes_out":0,"client":"2001:db8::1","attempts":0,"message":"request"}`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := accessLines(t, "info", streamed(c.change)); got != c.want+"\n" {
				t.Errorf("got\n%swant\n%s", got, c.want)
			}
		})
	}
}

func TestNoAccessLinesAboveInfo(t *testing.T) {
	if got := accessLines(t, "warn", streamed(nil)); got != "" {
		t.Error(got)
	}
}

func TestCutLeavesNoHalfRune(t *testing.T) {
	for _, c := range []struct {
		s    string
		max  int
		want string
	}{
		{"abc", 3, "abc"}, {"abcd", 3, "abc"}, {"aé", 2, "a"}, {"éé", 3, "é"}, {"a😀", 4, "a"}, {"😀", 3, ""},
		{"\x80\x80\x80\x80\x80\x80", 5, "\x80\x80\x80\x80\x80"},
	} {
		if got := string(cut([]byte(c.s), c.max)); got != c.want {
			t.Errorf("cut(%q, %d) = %q, want %q", c.s, c.max, got, c.want)
		}
	}
}

func TestMillisecondsAreWrittenAsTheShortestNumber(t *testing.T) {
	for _, ns := range []int64{-1, 0, 1, 999, 1000, 1999, 10_000, 999_999, 1e6, 1_000_001, 1_010_000, 1_200_000, 12_345_678, 1e9, 86_400e9, math.MaxInt64} {
		want := strconv.FormatFloat(float64(max(ns, 0)/1000)/1000, 'f', -1, 64)
		if got := string(appendMilliseconds([]byte("x"), ns)); got != "x"+want {
			t.Errorf("%d ns: %s, want x%s", ns, got, want)
		}
	}
	for range 100_000 {
		ns := rand.Int64N(1 << rand.IntN(50))
		want := strconv.FormatFloat(float64(ns/1000)/1000, 'f', -1, 64)
		if got := string(appendMilliseconds(nil, ns)); got != want {
			t.Fatalf("%d ns: %s, want %s", ns, got, want)
		}
	}
}

func TestLinesAreStampedWithMilliseconds(t *testing.T) {
	for _, at := range []time.Time{time.Unix(0, 0), time.Unix(1, 999_999_999), time.Unix(1764055492, 7_000_000), time.Date(2024, 2, 29, 23, 59, 59, 120e6, time.FixedZone("", 5400))} {
		var b strings.Builder
		z := zerolog.New(&b)
		stamp(z.Log(), at).Send()
		if want := `{"time":"` + at.UTC().Format("2006-01-02T15:04:05.000Z") + `"}` + "\n"; b.String() != want {
			t.Errorf("%s, want %s", b.String(), want)
		}
	}
}
