package blackbox

import (
	"strings"
	"testing"
)

const otherKey = "sk-relay-another-key-456"

// bare is a request without any credential; path may hold one.
func bare(method, path, body string, fields ...string) string {
	return strings.Replace(request(method, path, body, fields...), "Authorization: Bearer "+testKey+"\r\n", "", 1)
}

func TestTwoDifferentCredentialsAreRefused(t *testing.T) {
	up := untouched(t)
	rl := relayTo(t, up, "", option{keys: keysOf(key("k2", otherKey, "other"))})
	own, other := "Bearer "+testKey, otherKey
	for name, raw := range map[string]string{
		"Authorization and x-api-key":      bare("GET", "/v1/models", "", "Authorization: "+own, "x-api-key: "+other),
		"Authorization and api-key":        bare("GET", "/v1/models", "", "Authorization: "+own, "api-key: "+other),
		"Authorization and x-goog-api-key": bare("GET", "/v1/models", "", "Authorization: "+own, "x-goog-api-key: "+other),
		"x-api-key and api-key":            bare("GET", "/v1/models", "", "x-api-key: "+testKey, "api-key: "+other),
		"Authorization and query":          bare("GET", "/v1/models?key="+other, "", "Authorization: "+own),
		"header and query, other name":     bare("GET", "/v1/models?api_key="+other, "", "x-api-key: "+testKey),
		"two in the query":                 bare("GET", "/v1/models?key="+testKey+"&key="+other, ""),
		"two names in the query":           bare("GET", "/v1/models?key="+testKey+"&api_key="+other, ""),
		"an encoded name in the query":     bare("GET", "/v1/models?key="+testKey+"&k%65y="+other, ""),
		"two Authorization":                bare("GET", "/v1/models", "", "Authorization: "+own, "Authorization: Bearer "+other),
		"two Authorization, the same":      bare("GET", "/v1/models", "", "Authorization: "+own, "Authorization: "+own),
		"two x-api-key":                    bare("GET", "/v1/models", "", "x-api-key: "+testKey, "X-API-KEY: "+other),
		"a bad one beside a good one":      bare("GET", "/v1/models", "", "Authorization: "+own, "x-api-key: nonsense"),
	} {
		t.Run(name, func(t *testing.T) {
			a := rl.refusesRequest(t, up, 401, raw)
			if e := decodeOpenAI(t, a.body); e.Code == nil || *e.Code != "invalid_api_key" {
				t.Errorf("%s", a.body)
			}
		})
	}
}

func TestOneCredentialInAnyOfItsPlacesIsAccepted(t *testing.T) {
	got := make(chan *received, 1)
	up := newUpstream(t, func(rq *received) { got <- rq; rq.reply(200, "{}") })
	rl := relayTo(t, up, "")
	for name, raw := range map[string]string{
		"Authorization":                   bare("GET", "/v1/models?a=b", "", "Authorization: Bearer "+testKey),
		"scheme in lower case":            bare("GET", "/v1/models?a=b", "", "authorization: bearer "+testKey),
		"scheme in upper case":            bare("GET", "/v1/models?a=b", "", "AUTHORIZATION: BEARER  "+testKey),
		"x-api-key":                       bare("GET", "/v1/models?a=b", "", "X-Api-Key: "+testKey),
		"api-key":                         bare("GET", "/v1/models?a=b", "", "api-key: "+testKey),
		"x-goog-api-key":                  bare("GET", "/v1/models?a=b", "", "x-goog-api-key: "+testKey),
		"query, alone":                    bare("GET", "/v1/models?a=b&key="+testKey, ""),
		"query, encoded":                  bare("GET", "/v1/models?key="+strings.ReplaceAll(testKey, "-", "%2d")+"&a=b", ""),
		"query, first":                    bare("GET", "/v1/models?key="+testKey+"&a=b", ""),
		"query, api_key":                  bare("GET", "/v1/models?api_key="+testKey+"&a=b", ""),
		"query, name encoded":             bare("GET", "/v1/models?%6bey="+testKey+"&a=b", ""),
		"the same in two places":          bare("GET", "/v1/models?a=b", "", "Authorization: Bearer "+testKey, "x-api-key: "+testKey),
		"the same in header and query":    bare("GET", "/v1/models?a=b&key="+testKey, "", "Authorization: Bearer "+testKey),
		"the same twice in the query":     bare("GET", "/v1/models?key="+testKey+"&a=b&key="+testKey, ""),
		"another scheme beside x-api-key": bare("GET", "/v1/models?a=b", "", "Authorization: Basic dXNlcjpwYXNz", "x-api-key: "+testKey),
	} {
		t.Run(name, func(t *testing.T) {
			c := rl.dialFor(t)
			c.send(raw)
			if a := c.answer(); a.status != 200 {
				t.Fatalf("status %d: %s", a.status, a.body)
			}
			rq := receive(t, got)
			if rq.line != "GET /oai/v1/models?a=b HTTP/1.1" {
				t.Errorf("upstream got %q", rq.line)
			}
			if strings.Contains(rq.head, testKey) || strings.Contains(rq.head, "Basic") || strings.Count(rq.head, upstreamKey) != 1 {
				t.Errorf("upstream got %q", rq.head)
			}
		})
	}
}

func TestKeyInTheQueryLeavesNoTrace(t *testing.T) {
	got := make(chan string, 1)
	up := newUpstream(t, func(rq *received) { got <- rq.line; rq.reply(200, "{}") })
	rl := relayTo(t, up, "")
	for in, want := range map[string]string{
		"/v1beta/models?key=" + testKey:                    "/gem/v1beta/models",
		"/v1beta/models?alt=sse&key=" + testKey:            "/gem/v1beta/models?alt=sse",
		"/v1beta/models?key=" + testKey + "&alt=sse":       "/gem/v1beta/models?alt=sse",
		"/v1beta/models?a=1&key=" + testKey + "&&b=%zz;c=": "/gem/v1beta/models?a=1&&b=%zz;c=",
	} {
		c := rl.dialFor(t)
		c.send(bare("GET", in, ""))
		c.answer()
		if line := receive(t, got); line != "GET "+want+" HTTP/1.1" {
			t.Errorf("%q became %q, want %q", in, line, want)
		}
	}
}
