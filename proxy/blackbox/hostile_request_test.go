package blackbox

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"strings"
	"testing"
)

func TestConnectionHeaderCannotNameWhatTheRelayReliesOn(t *testing.T) {
	up := untouched(t)
	rl := relayTo(t, up, "")
	for _, name := range []string{
		"authorization", "Authorization", "x-api-key", "api-key", "x-goog-api-key", "content-length", "content-type", "content-encoding", "host", "cookie",
		"expect", "x-tenant-id", "x-request-id", "anthropic-version", "close, authorization", "keep-alive,x-api-key", "authorization,", " \tauthorization\t ",
	} {
		t.Run(name, func(t *testing.T) {
			rl.refuses(t, up, post("/v1/chat/completions", chatPlain, "Connection: "+name))
		})
	}
	t.Run("on a second line", func(t *testing.T) {
		rl.refuses(t, up, post("/v1/chat/completions", chatPlain, "Connection: keep-alive", "Connection: authorization"))
	})
	t.Run("on a fifth line", func(t *testing.T) {
		rl.refuses(t, up, post("/v1/chat/completions", chatPlain, "Connection: a", "Connection: b", "Connection: c", "Connection: d", "Connection: authorization"))
	})
}

func TestAmbiguousJSONIsRefused(t *testing.T) {
	up := untouched(t)
	rl := relayTo(t, up, "")
	for name, c := range map[string]struct{ body, code string }{
		"model twice":                {`{"model":"a","model":"b"}`, "duplicate_key"},
		"model twice, the same":      {`{"model":"a","model":"a"}`, "duplicate_key"},
		"model in another case":      {`{"model":"a","Model":"b"}`, "ambiguous_key"},
		"model in another case only": {`{"MODEL":"b"}`, "ambiguous_key"},
		"model, escaped":             {`{"model":"a","mod\u0065l":"b"}`, "duplicate_key"},
		"model with a Kelvin-like K": {"{\"model\":\"a\",\"\u017ftream\":true}", "ambiguous_key"},
		"stream twice":               {`{"model":"a","stream":false,"stream":true}`, "duplicate_key"},
		"stream_options twice":       {`{"model":"a","stream_options":{},"stream_options":{}}`, "duplicate_key"},
		"byte order mark":            {"\xef\xbb\xbf" + chatPlain, "bom"},
		"UTF-16":                     {"\xff\xfe{\x00}\x00", ""},
		"two documents":              {chatPlain + chatPlain, "trailing_data"},
		"two documents on two lines": {chatPlain + "\n" + chatPlain, "trailing_data"},
		"rubbish behind":             {chatPlain + "x", "trailing_data"},
		"NUL behind":                 {chatPlain + "\x00", "trailing_data"},
		"an array":                   {`[` + chatPlain + `]`, "not_object"},
		"a string":                   {`"model"`, "not_object"},
		"null":                       {`null`, "not_object"},
		"white space":                {"  ", "invalid_json"},
		"not JSON":                   {"model=a", "invalid_json"},
		"cut short":                  {chatPlain[:20], "invalid_json"},
		"trailing comma":             {`{"model":"a",}`, "invalid_json"},
		"comment":                    {`{"model":"a"/**/}`, "invalid_json"},
		"single quotes":              {`{'model':'a'}`, "invalid_json"},
		"NaN":                        {`{"model":"a","x":NaN}`, "invalid_json"},
		"control byte in a string":   {"{\"model\":\"a\x01\"}", ""},
		"model not a string":         {`{"model":["a"]}`, "bad_type"},
		"model a number":             {`{"model":1}`, "bad_type"},
		"stream not a boolean":       {`{"model":"a","stream":"true"}`, "bad_type"},
		"too deep":                   {`{"model":"a","x":` + strings.Repeat("[", 100000) + strings.Repeat("]", 100000) + `}`, "too_deep"},
		"model with a line end":      {`{"model":"a\nb"}`, "bad_value"},
		"model of 10 kB":             {`{"model":"` + strings.Repeat("a", 10000) + `"}`, "bad_value"},
		"model not UTF-8":            {"{\"model\":\"\xff\"}", ""},
		"model with half a pair":     {`{"model":"\ud800"}`, "bad_value"},
	} {
		t.Run(name, func(t *testing.T) {
			a := rl.refusesRequest(t, up, 400, post("/v1/chat/completions", c.body))
			if e := decodeOpenAI(t, a.body); e.Code == nil || c.code != "" && *e.Code != c.code || e.Type != "invalid_request_error" {
				t.Errorf("%s, want %s", a.body, c.code)
			}
		})
	}
}

func TestCompressedRequestBodyIsRefusedWhereItMustBeRead(t *testing.T) {
	up := untouched(t)
	rl := relayTo(t, up, "")
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = w.Write([]byte(chatPlain))
	_ = w.Close()
	for _, lines := range [][]string{
		{"Content-Encoding: gzip"}, {"Content-Encoding: GZIP"}, {"Content-Encoding: br"}, {"Content-Encoding: identity, gzip"},
	} {
		t.Run(strings.Join(lines, ", "), func(t *testing.T) {
			a := rl.refusesRequest(t, up, 415, post("/v1/chat/completions", packed.String(), lines...))
			if e := decodeOpenAI(t, a.body); e.Code == nil || *e.Code != "unsupported_content_encoding" {
				t.Errorf("%s", a.body)
			}
		})
	}
	for _, lines := range [][]string{
		{"Content-Encoding: identity", "Content-Encoding: gzip"}, {"Content-Encoding: gzip", "Content-Encoding: identity"}, {"Content-Type: application/json"}, {"Content-Type: text/plain"},
	} {
		t.Run("twice: "+strings.Join(lines, ", "), func(t *testing.T) { rl.refusesRequest(t, up, 400, post("/v1/chat/completions", chatPlain, lines...)) })
	}
	t.Run("not declared", func(t *testing.T) { rl.refusesRequest(t, up, 400, post("/v1/chat/completions", packed.String())) })
}

func TestASecondRequestInABodyStaysABody(t *testing.T) {
	got := make(chan *received, 8)
	up := newUpstream(t, func(rq *received) { got <- rq; rq.reply(200, "{}") })
	rl := relayTo(t, up, "")
	evil := "0\r\n\r\n" + request("GET", "/v1/evil", "") + "\r\n\r\n"
	file := "Content-Type: application/octet-stream"
	for name, raw := range map[string]string{
		"POST with a length": request("POST", "/v1/files", evil, file),
		"POST, chunked":      request("POST", "/v1/files", "", file, "Transfer-Encoding: chunked") + chunk(evil) + lastChunk,
		"PUT":                request("PUT", "/v1/files", evil, file),
		"PATCH":              request("PATCH", "/v1/files", evil, file),
		"DELETE":             request("DELETE", "/v1/files/f", evil, file),
		"GET":                request("GET", "/v1/files", evil, file),
		"GET, chunked":       request("GET", "/v1/files", "", file, "Transfer-Encoding: chunked") + chunk(evil) + lastChunk,
		"HEAD":               request("HEAD", "/v1/files", evil, file),
		"OPTIONS":            request("OPTIONS", "/v1/files", evil, file),
		"with Expect":        request("POST", "/v1/files", evil, file, "Expect: 100-continue"),
		"as HTTP/1.0":        strings.Replace(request("POST", "/v1/files", evil, file, "Connection: keep-alive"), "HTTP/1.1", "HTTP/1.0", 1),
	} {
		t.Run(name, func(t *testing.T) {
			c := rl.dialFor(t)
			c.send(raw)
			method, _, _ := strings.Cut(raw, " ")
			a := c.beginTo(method)
			if a.status == 100 {
				a = c.beginTo(method)
			}
			if _, err := a.rest(); err != nil || a.status != 200 {
				t.Fatalf("status %d, %v", a.status, err)
			}
			rq := receive(t, got)
			if rq.body != evil || !strings.HasPrefix(rq.line, method+" ") {
				t.Errorf("upstream got %q with body %q", rq.line, rq.body)
			}
			// Whatever comes next is the next request, and nothing stands between.
			if !strings.EqualFold(a.get("Connection"), "close") {
				c.send(request("GET", "/v1/next", ""))
				if a := c.answer(); a.status != 200 {
					t.Fatalf("the next: status %d", a.status)
				}
				if rq := receive(t, got); rq.line != "GET /oai/v1/next HTTP/1.1" {
					t.Errorf("upstream got %q next", rq.line)
				}
			}
		})
	}
	if up.requests.Load() > 22 {
		t.Errorf("%d requests upstream", up.requests.Load())
	}
}

func TestABadRequestBehindAGoodOneEndsTheConnection(t *testing.T) {
	got := make(chan string, 4)
	up := newUpstream(t, func(rq *received) { got <- rq.line; rq.reply(200, "{}") })
	rl := relayTo(t, up, "")
	good := request("GET", "/v1/good", "")
	for name, bad := range map[string]string{
		"CL.TE":     request("POST", "/v1/files", "", "Content-Length: 6", "Transfer-Encoding: chunked") + "0\r\n\r\nG",
		"TE.CL":     request("POST", "/v1/files", "", "Transfer-Encoding: chunked", "Content-Length: 3") + "8\r\nSMUGGLED\r\n0\r\n\r\n",
		"TE.TE":     request("POST", "/v1/files", "", "Transfer-Encoding: chunked", "Transfer-Encoding: x") + "0\r\n\r\n",
		"folded":    request("GET", "/v1/x", "", "X: a\r\n b"),
		"bare LF":   strings.Replace(request("GET", "/v1/x", ""), "\r\n", "\n", 1),
		"all LF":    strings.ReplaceAll(request("GET", "/v1/x", ""), "\r\n", "\n") + "\r\n\r\n",
		"HTTP/2.0":  strings.Replace(request("GET", "/v1/x", ""), "HTTP/1.1", "HTTP/2.0", 1),
		"no host":   strings.Replace(request("GET", "/v1/x", ""), "Host: relay\r\n", "", 1),
		"bad chunk": request("POST", "/v1/files", "", "Content-Type: application/json", "Transfer-Encoding: chunked") + "5\nhello\r\n0\r\n\r\n",
		"rubbish":   "\x00\x01\x02\r\n\r\n",
		"no key":    bare("GET", "/v1/x", ""),
		"bad route": request("GET", "/nowhere", ""),
	} {
		t.Run(name, func(t *testing.T) {
			c := rl.dialFor(t)
			c.send(good + bad + request("GET", "/v1/behind", ""))
			if a := c.answer(); a.status != 200 {
				t.Fatalf("the good one: status %d", a.status)
			}
			if line := receive(t, got); line != "GET /oai/v1/good HTTP/1.1" {
				t.Fatalf("upstream got %q", line)
			}
			a := c.answer()
			if !refusal(a.status) {
				t.Fatalf("the bad one: status %d", a.status)
			}
			if strings.EqualFold(a.get("Connection"), "close") {
				c.closed()
				return
			}
			if name != "no key" && name != "bad route" {
				t.Fatal("the connection stays open")
			}
			receive(t, got) // in step: behind is a request of its own
		})
	}
}

func TestNothingBehindConnectionCloseIsServed(t *testing.T) {
	got := make(chan string, 4)
	up := newUpstream(t, func(rq *received) { got <- rq.line; rq.reply(200, "{}") })
	rl := relayTo(t, up, "")
	for name, first := range map[string]string{
		"close":                request("GET", "/v1/first", "", "Connection: close"),
		"close among others":   request("GET", "/v1/first", "", "Connection: x-a , CLOSE"),
		"close, second line":   request("GET", "/v1/first", "", "Connection: keep-alive", "Connection: close"),
		"HTTP/1.0":             strings.Replace(request("GET", "/v1/first", ""), "HTTP/1.1", "HTTP/1.0", 1),
		"HTTP/1.0, keep-alive": strings.Replace(request("GET", "/v1/first", "", "Connection: keep-alive, close"), "HTTP/1.1", "HTTP/1.0", 1),
	} {
		t.Run(name, func(t *testing.T) {
			c := rl.dialFor(t)
			c.send(first + request("GET", "/v1/behind", ""))
			if a := c.answer(); a.status != 200 || !strings.EqualFold(a.get("Connection"), "close") {
				t.Fatalf("%s", a.head)
			}
			c.closed()
			if line := receive(t, got); line != "GET /oai/v1/first HTTP/1.1" || len(got) != 0 {
				t.Errorf("upstream got %q and %d more", line, len(got))
			}
		})
	}
}

func TestUpgradesAreNotTaken(t *testing.T) {
	got := make(chan *received, 1)
	up := newUpstream(t, func(rq *received) { got <- rq; rq.reply(200, "{}") })
	rl := relayTo(t, up, "")
	websocket := []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}
	for name, raw := range map[string]string{
		"key in Authorization":  request("GET", "/v1/responses", "", websocket...),
		"key in a subprotocol":  bare("GET", "/v1/realtime?model=m", "", append(websocket, "Sec-WebSocket-Protocol: realtime, openai-insecure-api-key."+testKey)...),
		"no key":                bare("GET", "/v1/realtime", "", websocket...),
		"Upgrade in upper case": request("GET", "/v1/responses", "", "Connection: keep-alive, UPGRADE", "Upgrade: WebSocket"),
		"on an Anthropic path":  request("GET", "/v1/messages", "", websocket...),
	} {
		t.Run(name, func(t *testing.T) {
			before := up.asked()
			c, a := rl.speak(t, raw)
			if a == nil || a.status != 426 {
				t.Fatalf("%+v, want 426", a)
			}
			if !strings.Contains(string(a.body), `"error"`) || a.get("Content-Type") != "application/json" || a.get("X-Request-Id") == "" {
				t.Errorf("not in an envelope: %s %s", a.head, a.body)
			}
			if strings.Contains(a.head+string(a.body), testKey) {
				t.Error("the key comes back")
			}
			if !strings.Contains(strings.ToLower(a.get("Connection")), "close") {
				t.Errorf("Connection %q, want close", a.get("Connection"))
			}
			c.closed()
			up.notAsked(t, before)
		})
	}
	t.Run("h2c is ignored", func(t *testing.T) {
		c := rl.dialFor(t)
		c.send(request("GET", "/v1/models", "", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"))
		if a := c.answer(); a.status != 200 {
			t.Fatalf("status %d: %s", a.status, a.body)
		}
		if head := strings.ToLower(receive(t, got).head); strings.Contains(head, "upgrade") || strings.Contains(head, "http2") || strings.Contains(head, "connection") {
			t.Errorf("upstream got %q", head)
		}
	})
	t.Run("a key in a subprotocol never goes upstream", func(t *testing.T) {
		c := rl.dialFor(t)
		c.send(request("GET", "/v1/models", "", "Sec-WebSocket-Protocol: realtime, openai-insecure-api-key."+testKey))
		if a := c.answer(); a.status != 200 {
			t.Fatalf("status %d: %s", a.status, a.body)
		}
		if head := receive(t, got).head; strings.Contains(head, testKey) {
			t.Errorf("upstream got %q", head)
		}
	})
}

func TestARefusalIsFoundByAClientThatSentMore(t *testing.T) {
	// A close with unread bytes makes the kernel send a reset, which would
	// destroy the answer on its way.
	up := untouched(t)
	rl := relayTo(t, up, "")
	more := strings.Repeat("x", 256<<10)
	for name, raw := range map[string]string{
		"folded":          request("GET", "/v1/models", "", "X: a\r\n b"),
		"two lengths":     request("POST", "/v1/models", "", "Content-Length: 1", "Content-Length: 2"),
		"identity":        request("GET", "/v1/models", "", "Transfer-Encoding: identity"),
		"two hosts":       request("GET", "/v1/models", "", "Host: b"),
		"bad key":         strings.Replace(request("GET", "/v1/models", ""), testKey, "wrong", 1),
		"dot dot":         request("GET", "/v1/..", ""),
		"TRACE":           request("TRACE", "/v1/models", ""),
		"rubbish":         "\x16\x03\x01\r\n\r\n",
		"two credentials": request("GET", "/v1/models", "", "x-api-key: wrong"),
		"upgrade":         request("GET", "/v1/models", "", "Upgrade: websocket"),
	} {
		t.Run(name, func(t *testing.T) {
			for range 10 {
				c := rl.dialFor(t)
				c.send(raw + more[:100])
				a := func() *answer {
					// All of it is on its way before the client looks.
					_, _ = fmt.Fprint(c.Conn, more)
					a, err := c.tryBegin("GET")
					if err != nil {
						t.Fatalf("no answer: %v", err)
					}
					return a
				}()
				if !refusal(a.status) {
					t.Errorf("status %d", a.status)
				}
				_ = c.Close()
			}
		})
	}
}
