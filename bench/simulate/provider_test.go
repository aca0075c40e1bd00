package simulate

import (
	"bufio"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

func TestCutIsNeverACleanEnd(t *testing.T) {
	_, addr := start(t, Options{})
	for _, simulate := range []string{"events=9,cut=4", "events=9,cut=0", "events=9,cut=9", "events=9,cut=4,reset=1", "events=9,fail=4", "events=9,onewrite=1,cut=4"} {
		_, body, err := call(t, addr, rawRequest("/v1/chat/completions", simulate, streamBody))
		if err == nil || strings.Contains(body, "[DONE]") {
			t.Errorf("%s: clean end %q", simulate, body)
		}
		if strings.Contains(simulate, "reset") {
			continue // a reset may take bytes with it
		}
		n, _ := strconv.Atoi(simulate[strings.LastIndexByte(simulate, '=')+1:])
		if got := strings.Count(body, markKey); got != n {
			t.Errorf("%s: %d events", simulate, got)
		}
		if strings.Contains(body, "simulated failure") != strings.Contains(simulate, "fail") {
			t.Errorf("%s: error event in %q", simulate, body)
		}
	}
	if _, _, err := call(t, addr, rawRequest("/v1/chat/completions", "events=9,cut=1", `{}`)); err == nil {
		t.Error("a JSON answer that is cut ended clean")
	}
	c := dial(t, addr)
	io.WriteString(c, rawRequest("/v1/chat/completions", "cut=head", streamBody))
	if b, err := io.ReadAll(c); err != nil || len(b) != 0 {
		t.Errorf("cut before the head gave %q, %v", b, err)
	}
}

// TestCancelIsCountedByPhase leaves at a known moment of a stalled answer.
func TestCancelIsCountedByPhase(t *testing.T) {
	p, addr := start(t, Options{})
	tests := []struct{ id, phase, simulate, body, until string }{
		{"a", beforeHead, "ttft=5m", streamBody, ""},
		{"b", beforeHead, "stall=head", streamBody, ""},
		{"c", midStream, "stall=2", streamBody, ".000001."},
		{"d", midStream, "gap=5m", streamBody, ".000000."},
		{"e", midStream, "head=0,ttft=5m", streamBody, "assistant"},
		{"f", midStream, "events=1,hold=5m", streamBody, ".000000."},
		{"g", nonStream, "ttft=5m", `{}`, ""},
		{"h", nonStream, "stall=1", `{}`, "\r\n\r\n"},
	}
	for _, tt := range tests {
		c := dial(t, addr)
		before := p.Stats().Requests
		io.WriteString(c, rawRequest("/v1/chat/completions", tt.simulate+",id="+tt.id, tt.body))
		eventually(t, "request "+tt.id, func() bool { return p.Stats().Requests == before+1 })
		if tt.until != "" {
			var got []byte
			for r := bufio.NewReader(c); !strings.Contains(string(got), tt.until); {
				b, err := r.ReadByte()
				if err != nil {
					t.Fatalf("%s: %v after %q", tt.id, err, got)
				}
				got = append(got, b)
			}
		}
		c.Close()
	}
	eventually(t, "all cancels seen", func() bool { return len(p.Cancels()) == len(tests) })
	phases := map[string]string{}
	for _, c := range p.Cancels() {
		phases[c.ID] = c.Phase
		if c.At <= 0 || c.After < 0 {
			t.Errorf("cancel %+v", c)
		}
	}
	for _, tt := range tests {
		if phases[tt.id] != tt.phase {
			t.Errorf("%s (%s): seen as %q, want %q", tt.id, tt.simulate, phases[tt.id], tt.phase)
		}
	}
	st := p.Stats()
	if st.Cancels != 8 || st.CancelsByPhase[midStream] != 4 || st.StreamsOpen != 0 {
		t.Errorf("stats %+v", st)
	}
}

func TestLeavingAfterTheEndIsNoCancel(t *testing.T) {
	p, addr := start(t, Options{})
	for range 20 {
		if _, _, err := call(t, addr, rawRequest("/v1/chat/completions", "events=3", streamBody)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "connections gone", func() bool { return p.Stats().ConnectionsOpen == 0 })
	if st := p.Stats(); st.Cancels != 0 || st.Streams != 20 || st.Events != 60 || st.Connections != 20 || st.ByRoute["chat.completions"] != 20 || st.BodyBytes != int64(20*len(streamBody)) {
		t.Errorf("stats %+v", st)
	}
}

// TestOneConnectionServesPipelinedRequests sends three requests at once, one of
// them chunked, the first of which waits.
func TestOneConnectionServesPipelinedRequests(t *testing.T) {
	p, addr := start(t, Options{})
	c := dial(t, addr)
	chunked := "POST /v1/chat/completions HTTP/1.1\r\nHost: s\r\nx-goog-api-key: k\r\nX-Simulate: events=2\r\nTransfer-Encoding: chunked\r\n\r\n" +
		"5;x=y\r\n{\"str\r\nc\r\neam\": true }\r\n0\r\nTrailer: x\r\n\r\n"
	io.WriteString(c, rawRequest("/v1/chat/completions", "ttft=20ms,gap=1ms,events=3", streamBody)+chunked+
		rawRequest("/v1/embeddings", "", `{}`))
	r := bufio.NewReader(c)
	for _, want := range []string{"[DONE]", "[DONE]", `"object":"list"`} {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || !strings.Contains(string(body), want) {
			t.Fatalf("%v, want %s in %s", err, want, body)
		}
	}
	if st := p.Stats(); st.Connections != 1 || st.Requests != 3 {
		t.Errorf("stats %+v", st)
	}
}

func TestCredentialIsNeededAndItsDigestShown(t *testing.T) {
	p, addr := start(t, Options{Key: "sk-provider"})
	digest := func(s string) string { h := sha256.Sum256([]byte(s)); return hex.EncodeToString(h[:]) }
	for header, status := range map[string]int{
		"":                                      401,
		"Authorization: Bearer sk-client\r\n":   401,
		"authorization: bearer sk-provider\r\n": 200,
		"X-API-Key: sk-provider\r\n":            200,
		"api-key: sk-provider\r\n":              200,
		"x-goog-api-key: sk-provider\r\n":       200,
	} {
		raw := "POST /v1/chat/completions HTTP/1.1\r\nHost: s\r\n" + header + "Content-Length: 2\r\n\r\n{}"
		if resp, body, _ := call(t, addr, raw); resp.StatusCode != status {
			t.Errorf("%q: status %d, want %d: %s", header, resp.StatusCode, status, body)
		}
	}
	resp, _, _ := call(t, addr, "POST /v1beta/models/m:generateContent?alt=json&key=sk-provider HTTP/1.1\r\nHost: s\r\nContent-Length: 2\r\n\r\n{}")
	if resp.StatusCode != 200 {
		t.Errorf("key in the query: status %d", resp.StatusCode)
	}
	_, body, _ := call(t, addr, "GET /sim/stats HTTP/1.1\r\nHost: s\r\n\r\n")
	var st Stats
	if err := json.Unmarshal([]byte(body), &st); err != nil {
		t.Fatal(err)
	}
	want := digest("sk-provider")
	if st.Credential != want || st.Credentials[want] != 5 || len(st.Credentials) != 1 || st.Unauthorized != 2 || st.Requests != 7 {
		t.Errorf("stats %s", body)
	}
	if strings.Contains(body, "sk-") {
		t.Errorf("a credential is shown: %s", body)
	}
	if p.Stats().Requests != 7 {
		t.Error("a look at the statistics counted as a request")
	}
}

func TestErrorsSpeakTheDialect(t *testing.T) {
	_, addr := start(t, Options{})
	for path, want := range map[string]string{
		"/v1/chat/completions": `{"error":{"message":"simulated error","type":"rate_limit_error","param":null,"code":"429"}}`,
		"/v1/messages":         `{"type":"error","error":{"type":"rate_limit_error","message":"simulated error"},"request_id":"req_sim"}`,
		"/v1beta/models/g:streamGenerateContent?alt=sse": `{"error":{"code":429,"message":"simulated error","status":"RESOURCE_EXHAUSTED"}}`,
	} {
		resp, body, err := call(t, addr, rawRequest(path, "error=429,retry=3", streamBody))
		if err != nil || resp.StatusCode != 429 || resp.Header.Get("Retry-After") != "3" || body != want {
			t.Errorf("%s: %d %v %v %s", path, resp.StatusCode, resp.Header, err, body)
		}
	}
}

func TestNonsenseIsRefused(t *testing.T) {
	_, addr := start(t, Options{})
	for _, raw := range []string{
		"nonsense\r\n\r\n", "GET / HTTP/3\r\n\r\n", "GET / HTTP/1.1\r\nno colon\r\n\r\n",
		"POST /v1/embeddings HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "POST /v1/embeddings HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
		"POST /v1/embeddings HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", "POST /v1/embeddings HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"POST /v1/embeddings HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n0\r\n\r\n",
		"POST /v1/embeddings HTTP/1.1\r\nx-api-key: k\r\nContent-Length: 1\r\nConnection: close\r\n\r\n{",
		"POST /v1/embeddings HTTP/1.1\r\nx-api-key: k\r\nX-Simulate: events=x\r\nConnection: close\r\n\r\n",
		"GET /" + strings.Repeat("x", maxHead) + " HTTP/1.1\r\nConnection: close\r\n\r\n",
	} {
		c := dial(t, addr)
		io.WriteString(c, raw)
		b, err := io.ReadAll(c)
		if !strings.HasPrefix(string(b), "HTTP/1.1 400 ") {
			t.Errorf("%.60q: %v %.60q", raw, err, b)
		}
	}
}

func TestHTTP10GetsAStreamEndedByClose(t *testing.T) {
	_, addr := start(t, Options{})
	raw := strings.Replace(rawRequest("/v1/chat/completions", "events=3", streamBody), "HTTP/1.1", "HTTP/1.0", 1)
	resp, body, err := call(t, addr, raw)
	if err != nil || len(resp.TransferEncoding) != 0 || !strings.HasSuffix(body, "data: [DONE]\n\n") || !strings.HasPrefix(body, "data: {") {
		t.Errorf("%v %v %q", err, resp.TransferEncoding, body)
	}
}

func TestExpectContinueIsAnsweredBeforeTheBody(t *testing.T) {
	_, addr := start(t, Options{})
	c := dial(t, addr)
	r := bufio.NewReader(c)
	io.WriteString(c, "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: s\r\napi-key: k\r\nExpect: 100-continue\r\nContent-Length: 100000\r\n\r\n")
	if line, err := r.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("%q %v", line, err)
	}
	r.ReadString('\n')
	io.WriteString(c, strings.Repeat("x", 100000))
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v %v", resp, err)
	}
}

func TestTLSStreamAndCancel(t *testing.T) {
	cert, certPEM, _, err := SelfSigned()
	if err != nil {
		t.Fatal(err)
	}
	p, addr := start(t, Options{TLS: &tls.Config{Certificates: []tls.Certificate{cert}}})
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certPEM)
	c := tls.Client(dial(t, addr), &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"})
	io.WriteString(c, rawRequest("/v1/chat/completions", "events=4,gap=2ms", streamBody))
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(resp.Body); err != nil || !strings.HasSuffix(string(body), "[DONE]\n\n") {
		t.Fatalf("%v %s", err, body)
	}
	io.WriteString(c, rawRequest("/v1/chat/completions", "ttft=5m,id=tls", streamBody))
	eventually(t, "stream open", func() bool { return p.Stats().StreamsOpen == 1 })
	c.Close()
	eventually(t, "cancel seen", func() bool { return len(p.Cancels()) == 1 })
}

func TestCloseEndsOpenStreamsAndIsNoCancel(t *testing.T) {
	p, addr := start(t, Options{})
	for range 10 {
		io.WriteString(dial(t, addr), rawRequest("/v1/chat/completions", "stall=1", streamBody))
	}
	eventually(t, "streams open", func() bool { return p.Stats().StreamsOpen == 10 })
	p.Close()
	if st := p.Stats(); st.StreamsOpen != 0 || st.Cancels != 0 || st.ConnectionsOpen != 0 {
		t.Errorf("stats %+v", st)
	}
	if _, err := p.Start("127.0.0.1:0"); err == nil {
		t.Error("started again")
	}
}
