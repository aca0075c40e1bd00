package telemetry

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
)

func TestCountersAreExactFromManyGoroutines(t *testing.T) {
	const workers, each = 16, 2000
	var sunk sync.Map
	o := options()
	o.Sink = func(r *Request) { sunk.Store(r.ID, true) }
	tel := New(o)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				tel.InFlight.Inc()
				tel.Observe(streamed(func(r *Request) {
					r.ID = NewID(int64(w*each + i))
					r.Upstream = i % 2
					r.Model = []byte(fmt.Sprintf("m%d", i%7)) // m1 is configured, the rest is found
					r.Tenant = []byte(fmt.Sprintf("t%d", i%5))
					if i%10 == 0 {
						r.Status, r.UpstreamStatus, r.End = 499, 200, ClientGone
						r.UsageSource = UsageUnknown
						r.Cancel = 1e6
					}
				}))
				tel.Rejected(RejectHeldBytes)
				tel.InFlight.Dec()
				if i%500 == 0 {
					scrape(tel)
				}
			}
		})
	}
	wg.Wait()

	got := values(t, scrape(tel))
	const n, gone = workers * each, workers * each / 10
	want(t, got, map[string]float64{
		`relay_responses_total{class="2xx"}`:                n - gone,
		`relay_responses_total{class="4xx"}`:                gone,
		`relay_responses_total{class="5xx"}`:                0,
		`relay_end_reasons_total{reason="completed"}`:       n - gone,
		`relay_end_reasons_total{reason="client_gone"}`:     gone,
		`relay_stream_aborts_total{by="client"}`:            gone,
		`relay_rejected_total{reason="held_bytes"}`:         n,
		`relay_inflight_requests`:                           0,
		`relay_cancel_seconds_count`:                        gone,
		`relay_cancel_seconds_bucket{le="0.001"}`:           gone,
		`relay_cancel_seconds_bucket{le="0.0005"}`:          0,
		`relay_overhead_seconds_count{phase="request"}`:     n,
		`relay_streams_total{upstream="alpha"}`:             n / 2,
		`relay_upstream_head_seconds_sum{upstream="alpha"}`: n / 2 * 0.09,
	})
	for name, total := range map[string]float64{
		"relay_requests_total":                    n,
		"relay_tenant_requests_total":             n,
		"relay_usage_unknown_total":               gone,
		"relay_tokens_total":                      (n - gone) * (12 + 30 + 4),
		"relay_tenant_tokens_total":               (n - gone) * (12 + 30),
		"relay_streams_total":                     n,
		"relay_request_duration_seconds_count":    n,
		"relay_time_to_first_token_seconds_count": n,
		"relay_stream_inter_token_seconds_count":  3 * n,
		"relay_stream_inter_token_seconds_sum":    3.04 * n,
	} {
		if s := sum(got, name); fmt.Sprintf("%.6f", s) != fmt.Sprintf("%.6f", total) {
			t.Errorf("sum of %s is %v, want %v", name, s, total)
		}
	}
	calls := 0
	sunk.Range(func(any, any) bool { calls++; return true })
	if calls != n {
		t.Errorf("the sink got %d exchanges, want %d", calls, n)
	}
}

func TestClientsCannotInventModels(t *testing.T) {
	tel := New(options())
	for _, name := range []string{"", "denied", "not utf-8 \xff", "line\nbreak", strings.Repeat("x", maxModelLabel+1), "none", "other"} {
		tel.Observe(streamed(func(r *Request) {
			r.Model = []byte(name)
			if name == "denied" {
				r.Upstream, r.Status, r.UpstreamStatus, r.End, r.Error = -1, 401, 0, Denied, "invalid_api_key"
			}
		}))
	}
	want(t, values(t, scrape(tel)), map[string]float64{
		`relay_requests_total{endpoint="chat_completions",upstream="none",model="other",code="401"}`:  1,
		`relay_requests_total{endpoint="chat_completions",upstream="alpha",model="none",code="200"}`:  2,
		`relay_requests_total{endpoint="chat_completions",upstream="alpha",model="other",code="200"}`: 4,
	})
}

func TestModelsAndTenantsBeyondTheFirstHundredAreOther(t *testing.T) {
	tel := New(options())
	for i := range 250 {
		tel.Observe(streamed(func(r *Request) {
			r.Model = fmt.Appendf(nil, "found-%d", i)
			r.Tenant = fmt.Appendf(nil, "tenant-%d", i)
		}))
	}
	got := values(t, scrape(tel))
	want(t, got, map[string]float64{
		`relay_requests_total{endpoint="chat_completions",upstream="alpha",model="found-0",code="200"}`:  1,
		`relay_requests_total{endpoint="chat_completions",upstream="alpha",model="found-99",code="200"}`: 1,
		`relay_requests_total{endpoint="chat_completions",upstream="alpha",model="other",code="200"}`:    150,
		`relay_tenant_requests_total{tenant="tenant-99"}`:                                                1,
		`relay_tenant_requests_total{tenant="other"}`:                                                    150,
		`relay_tenant_tokens_total{tenant="other",type="output"}`:                                        150 * 30,
	})
}

func TestLabelsAreEscaped(t *testing.T) {
	tel := New(options())
	tel.Observe(streamed(func(r *Request) { r.Model = []byte(`a"b\c{d},e="f"`) }))
	want(t, values(t, scrape(tel)), map[string]float64{
		`relay_requests_total{endpoint="chat_completions",upstream="alpha",model="a\"b\\c{d},e=\"f\"",code="200"}`: 1,
	})
}

func TestRegisterKeepsIndexesAndCounts(t *testing.T) {
	tel := New(options())
	tel.Observe(streamed(nil))
	if got := fmt.Sprint(tel.Register([]string{"gamma", "beta", "alpha"}, []string{"m2"})); got != "[2 1 0]" {
		t.Errorf("indexes %s, want [2 1 0]", got)
	}
	tel.Observe(streamed(func(r *Request) { r.Upstream, r.Model, r.UpstreamStatus = 2, []byte("m2"), 0 }))
	tel.Observe(streamed(nil))
	want(t, values(t, scrape(tel)), map[string]float64{
		`relay_requests_total{endpoint="chat_completions",upstream="alpha",model="m1",code="200"}`: 2,
		`relay_requests_total{endpoint="chat_completions",upstream="gamma",model="m2",code="200"}`: 1,
	})
}

func TestUpstreamsBeyondTheLimitShareOther(t *testing.T) {
	o := options()
	o.Upstreams = append(numbered("u%d", maxUpstreams+5), "other", "none")
	tel := New(o)
	for i := range o.Upstreams {
		tel.Observe(streamed(func(r *Request) { r.Upstream = i }))
	}
	first := tel.Register(o.Upstreams, nil)
	if last := first[len(first)-1]; last != len(o.Upstreams)-1 {
		t.Errorf("a second Register gave the last upstream the index %d, want %d", last, len(o.Upstreams)-1)
	}
	want(t, values(t, scrape(tel)), map[string]float64{
		`relay_streams_total{upstream="u0"}`:    1,
		`relay_streams_total{upstream="u31"}`:   1,
		`relay_streams_total{upstream="other"}`: 7,
	})
}

func TestIndexesOutOfRangeAreCountedAsOtherAndNone(t *testing.T) {
	tel := New(options())
	tel.Observe(streamed(func(r *Request) { r.Endpoint, r.Upstream, r.End, r.Status = 99, 99, 200, 999 }))
	tel.Observe(streamed(func(r *Request) { r.Endpoint, r.Upstream, r.Status = -1, -1, -1 }))
	want(t, values(t, scrape(tel)), map[string]float64{
		`relay_requests_total{endpoint="other",upstream="none",model="m1",code="other"}`: 2,
		`relay_end_reasons_total{reason="internal"}`:                                     1,
	})
}

func TestStatusesBecomeCodes(t *testing.T) {
	table := newCodeTable()
	for status, code := range map[int]string{
		200: "200", 299: "2xx", 302: "3xx", 304: "304", 401: "401", 418: "4xx", 499: "499", 529: "529", 599: "5xx",
		100: "1xx", 99: "other", 0: "other", -1: "other", 600: "other", 1 << 40: "other",
	} {
		if got := codes[table.index(status)]; got != code {
			t.Errorf("status %d has the code %s, want %s", status, got, code)
		}
	}
	for i, c := range codes {
		if cl := codes[class(i)]; cl != c && (cl[0] != c[0] || !strings.HasSuffix(cl, "xx")) {
			t.Errorf("the class of %s is %s", c, cl)
		}
	}
}

func TestFailuresOfUpstreams(t *testing.T) {
	for _, c := range []struct {
		name string
		r    Request
		want UpstreamFailure
	}{
		{"completed", Request{UpstreamStatus: 200}, FailureNone},
		{"client gone", Request{UpstreamStatus: 200, End: ClientGone}, FailureNone},
		{"the owner knows better", Request{End: UpstreamError, Failure: FailureDNS}, FailureDNS},
		{"no such failure", Request{End: UpstreamCut, Failure: 200}, FailureCut},
		{"credential refused", Request{UpstreamStatus: 403, End: UpstreamStatus}, FailureAuth},
		{"rate limited", Request{UpstreamStatus: 429, End: UpstreamStatus}, FailureHTTP429},
		{"client's fault", Request{UpstreamStatus: 400, End: UpstreamStatus}, FailureHTTP4xx},
		{"upstream's fault", Request{UpstreamStatus: 503, End: Completed}, FailureHTTP5xx},
		{"redirect", Request{UpstreamStatus: 302, End: Completed}, FailureNone},
		{"cut", Request{UpstreamStatus: 200, End: UpstreamCut}, FailureCut},
		{"error event", Request{UpstreamStatus: 200, End: UpstreamError}, FailureEvent},
		{"no answer", Request{End: UpstreamError}, FailureUnknown},
		{"connect", Request{End: TimeoutConnect}, FailureTimeoutConnect},
		{"head", Request{End: TimeoutHead}, FailureTimeoutHead},
		{"first event", Request{UpstreamStatus: 200, End: TimeoutFirstEvent}, FailureTimeoutFirstEvent},
		{"idle", Request{UpstreamStatus: 200, End: TimeoutIdle}, FailureTimeoutIdle},
		{"total", Request{UpstreamStatus: 200, End: TimeoutTotal}, FailureTimeoutTotal},
	} {
		if got := failure(&c.r); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestStreamAbortsBy(t *testing.T) {
	tel := New(options())
	for end := range numEndReasons {
		tel.Observe(streamed(func(r *Request) { r.End = end }))
		tel.Observe(streamed(func(r *Request) { r.End, r.Stream = end, false }))                  // not a stream
		tel.Observe(streamed(func(r *Request) { r.End, r.UpstreamStatus = end, 0 }))              // never began
		tel.Observe(streamed(func(r *Request) { r.End, r.Upstream, r.UsageSource = end, -1, 0 })) // nobody was asked
	}
	want(t, values(t, scrape(tel)), map[string]float64{
		`relay_stream_aborts_total{by="client"}`:   1,
		`relay_stream_aborts_total{by="upstream"}`: 5,
		`relay_stream_aborts_total{by="drain"}`:    1,
		`relay_stream_aborts_total{by="limit"}`:    4,
		`relay_stream_aborts_total{by="internal"}`: 1,
		`relay_streams_total{upstream="alpha"}`:    float64(numEndReasons),
	})
}

func TestRetriesAreErrorsToo(t *testing.T) {
	tel := New(options())
	tel.Retried(1, FailureConnect)
	tel.Retried(1, FailureNone)
	tel.Retried(-1, FailureConnect)
	want(t, values(t, scrape(tel)), map[string]float64{
		`relay_upstream_retries_total{upstream="beta"}`:                   2,
		`relay_upstream_errors_total{upstream="beta",reason="connect"}`:   1,
		`relay_upstream_errors_total{upstream="beta",reason="unknown"}`:   1,
		`relay_upstream_errors_total{upstream="alpha",reason="connect"}`:  0,
		`relay_upstream_errors_total{upstream="alpha",reason="protocol"}`: 0,
	})
}

func TestPartialUsageCountsAndUnnamedFieldsDoNot(t *testing.T) {
	tel := New(options())
	tel.Observe(streamed(func(r *Request) {
		r.End, r.UsageSource = UpstreamCut, UsagePartial
		r.Usage = Usage{Input: 5, Output: -1, Cached: -1, CacheWrite: -1, Reasoning: -1}
	}))
	got := values(t, scrape(tel))
	if s := sum(got, "relay_tokens_total"); s != 5 {
		t.Errorf("%v tokens, want 5", s)
	}
	if s := sum(got, "relay_usage_unknown_total"); s != 0 {
		t.Errorf("%v unknown, want 0", s)
	}
}

// The worst that a configuration and its clients can do to a scrape.
func TestScrapeStaysWithinItsBudget(t *testing.T) {
	long := strings.Repeat("x", 100)
	for _, c := range []struct {
		name              string
		upstreams, models int
	}{{"one upstream", 1, 0}, {"usual", 4, 100}, {"large", 12, 300}, {"absurd", 60, 2000}} {
		t.Run(c.name, func(t *testing.T) {
			o := options()
			o.Endpoints = numbered("endpoint_%d", 24)
			o.Upstreams = numbered("an-upstream-with-a-name-%d", c.upstreams)
			o.Models = numbered("vendor/"+long+"-%d", c.models)
			o.Common = []int{0, 1, 2}
			tel := New(o)
			random := rand.New(rand.NewPCG(1, 2))
			const n = 20_000
			tokens := 0
			for range n {
				tel.Observe(streamed(func(r *Request) {
					r.Endpoint, r.Upstream = random.IntN(24), random.IntN(c.upstreams+1)-1
					r.Status = 200 + random.IntN(400)
					r.Model = fmt.Appendf(nil, "vendor/%s-%d", long, random.IntN(c.models+500))
					r.Tenant = fmt.Appendf(nil, "%s-%d", long[:50], random.IntN(1000))
					if r.Upstream >= 0 {
						tokens += 46
					}
				}))
			}
			text := scrape(tel)
			got := values(t, text)
			t.Logf("%d series, %d bytes", len(got), len(text))
			if len(got) > 10_000 || len(text) > 1_000_000 {
				t.Errorf("%d series in %d bytes; at most 10,000 in 1,000,000", len(got), len(text))
			}
			if s := sum(got, "relay_requests_total"); s != n {
				t.Errorf("%v requests, want %d", s, n)
			}
			if s := sum(got, "relay_tokens_total"); s != float64(tokens) {
				t.Errorf("%v tokens, want %d", s, tokens)
			}
			if s := sum(got, "relay_request_duration_seconds_count"); s != n {
				t.Errorf("%v durations, want %d", s, n)
			}
			if s := sum(got, "relay_time_to_first_token_seconds_count"); s != float64(tokens/46) {
				t.Errorf("%v first tokens, want %d", s, tokens/46)
			}
		})
	}
}

func TestAnEndpointMayBeCalledOther(t *testing.T) {
	o := options()
	o.Endpoints = []string{"other", "chat_completions"}
	tel := New(o)
	tel.Observe(streamed(nil))
	tel.Observe(streamed(func(r *Request) { r.Endpoint = 7 }))
	want(t, values(t, scrape(tel)), map[string]float64{
		`relay_requests_total{endpoint="other",upstream="alpha",model="m1",code="200"}`: 2,
		`relay_request_duration_seconds_count{endpoint="other",upstream="alpha"}`:       2,
	})
}

// Names that miss here are those that a change of an enumeration forgot.
func TestEveryReasonHasAName(t *testing.T) {
	seen := make(map[string]bool)
	check := func(kind, name string) {
		if key := kind + " " + name; name == "" || seen[key] {
			t.Errorf("%s has the name %q twice, or none", kind, name)
		} else {
			seen[key] = true
		}
	}
	for r := range numEndReasons {
		check("end", r.String())
	}
	for r := range numRejectReasons {
		check("reject", r.String())
	}
	for r := range numLimitReasons {
		check("limit", r.String())
	}
	for r := range numAuthReasons {
		check("auth", r.String())
	}
	for r := FailureNone + 1; r < numUpstreamFailures; r++ {
		check("failure", r.String())
	}
}
