package blackbox

import (
	"fmt"
	"strings"
	"testing"
)

// badField is a head that must be refused for its field lines, whatever the
// request line asks for.
type badField struct{ name, lines string }

func badFields() []badField {
	cl := fmt.Sprintf("Content-Length: %d\r\n", len(chatPlain))
	te := "Transfer-Encoding: chunked\r\n"
	cases := []badField{
		{"length and coding", cl + te},
		{"coding and length", te + cl},
		{"length 0 and coding", "Content-Length: 0\r\n" + te},
		{"two codings", te + te},
		{"two codings, one identity", te + "Transfer-Encoding: identity\r\n"},
		{"the same length twice", cl + cl},
		{"two lengths", cl + "Content-Length: 5\r\n"},
		{"folded with a space", "X-A: a\r\n b\r\n" + cl},
		{"folded with a tab", "X-A: a\r\n\tb\r\n" + cl},
		{"folded coding line", "X-A: a\r\n Transfer-Encoding: chunked\r\n" + cl},
		{"coding on a folded line", "Transfer-Encoding:\r\n chunked\r\n"},
		{"length on a folded line", fmt.Sprintf("Content-Length:\r\n %d\r\n", len(chatPlain))},
		{"bare LF at a line's end", "X-A: a\n" + cl},
		{"bare LF at the last line's end", "X-A: a\r\n" + strings.TrimSuffix(cl, "\r\n") + "\n"},
		{"bare LF hides a coding", "X-A: a\nTransfer-Encoding: chunked\r\n" + cl},
		{"bare LF as the empty line", cl + "\nX: "},
		{"bare CR in a value", "X-A: a\rb\r\n" + cl},
		{"bare CR hides a coding", "X-A: a\rTransfer-Encoding: chunked\r\n" + cl},
		{"two CR at a line's end", "X-A: a\r\r\n" + cl},
		{"CR in a name", "X\rA: a\r\n" + cl},
		{"space before the colon", "X-A : a\r\n" + cl},
		{"tab before the colon", "X-A\t: a\r\n" + cl},
		{"space before a coding's colon", "Transfer-Encoding : chunked\r\n" + cl},
		{"space before a length's colon", strings.Replace(cl, ":", " :", 1)},
		{"empty name", ": a\r\n" + cl},
		{"no colon", "X-A\r\n" + cl},
		{"space in a name", "X A: a\r\n" + cl},
		{"parenthesis in a name", "X(A): a\r\n" + cl},
		{"quote in a name", "\"X\": a\r\n" + cl},
		{"high byte in a name", "X-\xe9: a\r\n" + cl},
		{"second host", "Host: relay\r\n" + cl},
		{"second, different host", "Host: other\r\n" + cl},
	}
	for _, value := range []string{
		"identity", "gzip", "gzip, chunked", "chunked, gzip", "chunked, chunked", "chunked, identity", "identity, chunked",
		"xchunked", "chunkedx", "x-chunked", "\"chunked\"", "chunked;q=1", "chunked,", ",chunked", "\vchunked", "chunked\v", "chunked\x00", "",
	} {
		cases = append(cases, badField{fmt.Sprintf("coding %q", value), "Transfer-Encoding: " + value + "\r\n"})
	}
	n := fmt.Sprint(len(chatPlain))
	for _, value := range []string{
		"+" + n, "-" + n, "0x" + n, n + ", " + n, n + "," + n, n + " " + n, n + ".0", n + "e0", n + ";", "_" + n, "\v" + n, n + "\x00", "", "-0",
		"9223372036854775808", "18446744073709551616", "18446744073709551" + n, "99999999999999999999999999", "\xef\xbc\x95",
	} {
		cases = append(cases, badField{fmt.Sprintf("length %q", value), "Content-Length: " + value + "\r\n"})
	}
	for _, c := range []byte{0, 1, 7, 8, 11, 12, 27, 31, 127} {
		cases = append(cases,
			badField{fmt.Sprintf("byte %#02x in a value", c), "X-A: a" + string([]byte{c}) + "b\r\n" + cl},
			badField{fmt.Sprintf("byte %#02x in a name", c), "X" + string([]byte{c}) + "A: ab\r\n" + cl})
	}
	return cases
}

func TestMalformedHeadIsRefusedAndTheConnectionClosed(t *testing.T) {
	up := untouched(t)
	rl := relayTo(t, up, impatient)
	for _, line := range []string{
		"POST /v1/chat/completions HTTP/1.1", "POST /v1/messages HTTP/1.1", "POST /v1/files HTTP/1.1", "GET /v1/models HTTP/1.1", "DELETE /v1/files/f HTTP/1.1",
		"POST /v1/chat/completions HTTP/1.0", "GET /v1/models HTTP/1.0",
		"GET /healthz HTTP/1.1", "GET /healthz HTTP/1.0", "POST /metrics HTTP/1.1",
	} {
		t.Run(line, func(t *testing.T) {
			for _, c := range badFields() {
				t.Run(c.name, func(t *testing.T) { rl.refuses(t, up, sized(line, c.lines, chatPlain)) })
			}
		})
	}
}

func TestBareLFEverywhereIsRefused(t *testing.T) {
	up := untouched(t)
	rl := relayTo(t, up, impatient)
	for _, version := range []string{"HTTP/1.1", "HTTP/1.0"} {
		t.Run(version, func(t *testing.T) {
			raw := strings.ReplaceAll(sized("GET /v1/models "+version, "", ""), "\r\n", "\n")
			rl.refuses(t, up, raw)
		})
	}
}

func TestHostMustBeThereOnceAndBeOne(t *testing.T) {
	up := untouched(t)
	rl := relayTo(t, up, impatient)
	auth := "Authorization: Bearer " + testKey + "\r\n"
	for name, lines := range map[string]string{
		"missing":          "",
		"comma":            "Host: a,b\r\n",
		"space":            "Host: a b\r\n",
		"tab":              "Host: a\tb\r\n",
		"path":             "Host: a/b\r\n",
		"user":             "Host: user@a\r\n",
		"query":            "Host: a?b\r\n",
		"fragment":         "Host: a#b\r\n",
		"backslash":        "Host: a\\b\r\n",
		"quote":            "Host: \"a\"\r\n",
		"three":            "Host: a\r\nHost: a\r\nHost: a\r\n",
		"two, other case":  "Host: a\r\nhOST: a\r\n",
		"space and colon":  "Host : a\r\n",
		"behind a bare CR": "X: y\rHost: a\r\n",
	} {
		t.Run(name, func(t *testing.T) { rl.refuses(t, up, "GET /v1/models HTTP/1.1\r\n"+auth+lines+"\r\n") })
	}
}

func TestMalformedRequestLineIsRefused(t *testing.T) {
	up := untouched(t)
	rl := relayTo(t, up, impatient)
	rest := "\r\nHost: relay\r\nAuthorization: Bearer " + testKey + "\r\n\r\n"
	for name, raw := range map[string]string{
		"HTTP/2.0":                   "GET /v1/models HTTP/2.0" + rest,
		"HTTP/3.0":                   "GET /v1/models HTTP/3.0" + rest,
		"HTTP/1.2":                   "GET /v1/models HTTP/1.2" + rest,
		"HTTP/0.9":                   "GET /v1/models HTTP/0.9" + rest,
		"HTTP/9.9":                   "GET /v1/models HTTP/9.9" + rest,
		"HTTP/1.10":                  "GET /v1/models HTTP/1.10" + rest,
		"HTTP/11":                    "GET /v1/models HTTP/11" + rest,
		"HTTP/1":                     "GET /v1/models HTTP/1" + rest,
		"HTTP/ 1.1":                  "GET /v1/models HTTP/ 1.1" + rest,
		"http/1.1":                   "GET /v1/models http/1.1" + rest,
		"HTTPS/1.1":                  "GET /v1/models HTTPS/1.1" + rest,
		"ICY/1.1":                    "GET /v1/models ICY/1.1" + rest,
		"no version":                 "GET /v1/models" + rest,
		"no version, space":          "GET /v1/models " + rest,
		"HTTP/0.9 request":           "GET /v1/models\r\n\r\n",
		"no target":                  "GET HTTP/1.1" + rest,
		"two spaces before target":   "GET  /v1/models HTTP/1.1" + rest,
		"two spaces before version":  "GET /v1/models  HTTP/1.1" + rest,
		"space in the target":        "GET /v1/mod els HTTP/1.1" + rest,
		"space behind the version":   "GET /v1/models HTTP/1.1 " + rest,
		"tab between":                "GET\t/v1/models\tHTTP/1.1" + rest,
		"leading space":              " GET /v1/models HTTP/1.1" + rest,
		"leading tab":                "\tGET /v1/models HTTP/1.1" + rest,
		"bare LF":                    "GET /v1/models HTTP/1.1" + strings.TrimPrefix(rest, "\r"),
		"bare LF before the target":  "GET\n/v1/models HTTP/1.1" + rest,
		"bare CR before the CRLF":    "GET /v1/models HTTP/1.1\r" + rest,
		"bare CR in the target":      "GET /v1/mo\rdels HTTP/1.1" + rest,
		"NUL in the target":          "GET /v1/mo\x00dels HTTP/1.1" + rest,
		"control byte in the target": "GET /v1/mo\x01dels HTTP/1.1" + rest,
		"DEL in the target":          "GET /v1/mo\x7fdels HTTP/1.1" + rest,
		"NUL in the method":          "G\x00T /v1/models HTTP/1.1" + rest,
		"lower-case method":          "get /v1/models HTTP/1.1" + rest,
		"mixed-case method":          "Post /v1/models HTTP/1.1" + rest,
		"unknown method":             "FOO /v1/models HTTP/1.1" + rest,
		"PROPFIND":                   "PROPFIND /v1/models HTTP/1.1" + rest,
		"QUERY":                      "QUERY /v1/models HTTP/1.1" + rest,
		"parenthesis in the method":  "GE(T /v1/models HTTP/1.1" + rest,
		"method with colon":          "GET: /v1/models HTTP/1.1" + rest,
		"TRACE":                      "TRACE /v1/models HTTP/1.1" + rest,
		"TRACE as HTTP/1.0":          "TRACE /v1/models HTTP/1.0" + rest,
		"CONNECT":                    "CONNECT relay:443 HTTP/1.1" + rest,
		"CONNECT as HTTP/1.0":        "CONNECT relay:443 HTTP/1.0" + rest,
		"CONNECT with a path":        "CONNECT /v1/models HTTP/1.1" + rest,
		"GET in authority form":      "GET relay:443 HTTP/1.1" + rest,
		"GET *":                      "GET * HTTP/1.1" + rest,
		"OPTIONS *":                  "OPTIONS * HTTP/1.1" + rest,
		"relative target":            "GET v1/models HTTP/1.1" + rest,
		"target with a bad scheme":   "GET 1http://relay/v1/models HTTP/1.1" + rest,
		"HTTP/2 preface":             "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"TLS client hello":           "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
		"native ClickHouse hello":    "\x00\x11ClickHouse client\r\n\r\n",
		"SSH":                        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
		"an answer":                  "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) { rl.refuses(t, up, raw) })
	}
}

func TestBlankLineBeforeARequestIsSkipped(t *testing.T) {
	// RFC 9112 §2.2: at least one, left over by the POST before.
	up := untouched(t)
	rl := relayTo(t, up, impatient)
	c := rl.dial()
	c.send("\r\n" + post("/v1/chat/completions", chatPlain) + "\r\n" + post("/v1/chat/completions", chatPlain))
	for range 2 {
		if a := c.answer(); a.status != 200 {
			t.Fatalf("status %d", a.status)
		}
	}
}

func TestLinesOfNothingAreBounded(t *testing.T) {
	up := untouched(t)
	rl := relayTo(t, up, impatient)
	for name, line := range map[string]string{"CRLF": "\r\n", "LF": "\n"} {
		t.Run(name, func(t *testing.T) {
			before := up.asked()
			c, a := rl.speak(t, strings.Repeat(line, 1<<20))
			if a != nil {
				if !refusal(a.status) {
					t.Errorf("status %d", a.status)
				}
				c.closed()
			}
			up.notAsked(t, before)
		})
	}
}

func TestBadChunksAreRefusedAndNothingIsForwarded(t *testing.T) {
	up := untouched(t)
	rl := relayTo(t, up, impatient)
	head := sized("POST /v1/chat/completions HTTP/1.1", "Transfer-Encoding: chunked\r\n", "")
	size := fmt.Sprintf("%x", len(chatPlain))
	good := size + "\r\n" + chatPlain + "\r\n"
	for name, body := range map[string]string{
		"no hexadecimal digit":          "xyz\r\n" + chatPlain + "\r\n0\r\n\r\n",
		"empty size":                    "\r\n" + chatPlain + "\r\n0\r\n\r\n",
		"prefix 0x":                     "0x" + good + "0\r\n\r\n",
		"signed":                        "+" + good + "0\r\n\r\n",
		"negative":                      "-" + good + "0\r\n\r\n",
		"space before the size":         " " + good + "0\r\n\r\n",
		"underscore":                    size + "_" + "\r\n" + chatPlain + "\r\n0\r\n\r\n",
		"size that overflows 64 bits":   "10000000000000000" + good + "0\r\n\r\n",
		"size of 16 digits":             "ffffffffffffffff\r\n" + chatPlain + "\r\n0\r\n\r\n",
		"bare LF behind the size":       size + "\n" + chatPlain + "\r\n0\r\n\r\n",
		"bare CR behind the size":       size + "\r" + chatPlain + "\r\n0\r\n\r\n",
		"two CR behind the size":        size + "\r\r\n" + chatPlain + "\r\n0\r\n\r\n",
		"bare LF in an extension":       size + ";a\nb\r\n" + chatPlain + "\r\n0\r\n\r\n",
		"bare CR in an extension":       size + ";a\rb\r\n" + chatPlain + "\r\n0\r\n\r\n",
		"extension without a semicolon": size + " a\r\n" + chatPlain + "\r\n0\r\n\r\n",
		"NUL in an extension":           size + ";a\x00b\r\n" + chatPlain + "\r\n0\r\n\r\n",
		"extension of 1 MiB":            size + ";" + strings.Repeat("a", 1<<20) + "\r\n" + chatPlain + "\r\n0\r\n\r\n",
		"bare LF behind the last chunk": good + "0\n\r\n",
		"bare LF as the end":            good + "0\r\n\n",
		"bare LFs as the end":           good + "0\n\n",
		"bare LF in a trailer":          good + "0\r\nX-A: a\n\r\n",
		"bare LF behind the trailers":   good + "0\r\nX-A: a\r\n\n",
		"NUL in a trailer":              good + "0\r\nX-A: \x00\r\n\r\n",
		"trailers of 1 MiB":             good + "0\r\n" + strings.Repeat("X-A: "+strings.Repeat("a", 1000)+"\r\n", 1000) + "\r\n",
		"chunk longer than its size":    size + "\r\n" + chatPlain + "X\r\n0\r\n\r\n",
		"chunk shorter than its size":   size + "\r\n" + chatPlain[1:] + "\r\n0\r\n\r\n",
		"no CRLF behind the payload":    size + "\r\n" + chatPlain + "0\r\n\r\n",
		"bare LF behind the payload":    size + "\r\n" + chatPlain + "\n0\r\n\r\n",
		"bare CR behind the payload":    size + "\r\n" + chatPlain + "\r0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) { rl.refuses(t, up, head+body) })
	}
}

// Trailers are dropped. Where their lines are wrong but their end is not in
// doubt, a refusal is as good as an answer; one of the two it must be, and the
// request behind must not have become a part of anything.
func TestOddTrailersChangeNoRequest(t *testing.T) {
	got := make(chan *received, 2)
	up := newUpstream(t, func(rq *received) { got <- rq; rq.reply(200, "{}") })
	rl := relayTo(t, up, impatient)
	head := sized("POST /v1/chat/completions HTTP/1.1", "Transfer-Encoding: chunked\r\n", "")
	good := chunk(chatPlain)
	for name, body := range map[string]string{
		"folded trailer":                 good + "0\r\nX-A: a\r\n b\r\n\r\n",
		"trailer without a colon":        good + "0\r\nX-A\r\n\r\n",
		"trailer with an empty name":     good + "0\r\n: a\r\n\r\n",
		"space before a trailer's colon": good + "0\r\nX-A : a\r\n\r\n",
		"framing in a trailer":           good + "0\r\nContent-Length: 5\r\n\r\n",
		"coding in a trailer":            good + "0\r\nTransfer-Encoding: chunked\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c, a := rl.speak(t, head+body+request("GET", "/v1/behind", ""))
			if a == nil {
				t.Fatal("no answer")
			}
			if refusal(a.status) {
				c.closed()
				if len(got) != 0 {
					t.Errorf("refused, and the upstream got %q", (<-got).head)
				}
				return
			}
			if rq := receive(t, got); rq.body != chatPlain || strings.Contains(rq.head, "X-A") {
				t.Errorf("upstream got %q %q", rq.head, rq.body)
			}
			if strings.EqualFold(a.get("Connection"), "close") {
				c.closed()
				return
			}
			if a := c.answer(); a.status != 200 {
				t.Errorf("the one behind: status %d", a.status)
			}
			if rq := receive(t, got); rq.line != "GET /oai/v1/behind HTTP/1.1" {
				t.Errorf("upstream got %q", rq.line)
			}
		})
	}
}

func TestGoodChunksArePayloadAlone(t *testing.T) {
	got := make(chan string, 1)
	up := newUpstream(t, func(rq *received) { got <- rq.head + rq.body; rq.reply(200, "{}") })
	rl := relayTo(t, up, impatient)
	size := fmt.Sprintf("%X", len(chatPlain))
	var oneByteEach strings.Builder
	for i := range chatPlain {
		oneByteEach.WriteString(chunk(chatPlain[i : i+1]))
	}
	for name, body := range map[string]string{
		"plain":               size + "\r\n" + chatPlain + "\r\n0\r\n\r\n",
		"leading zeros":       "000" + size + "\r\n" + chatPlain + "\r\n0000\r\n\r\n",
		"extensions":          size + ";a=b;c=\"d\"\r\n" + chatPlain + "\r\n0;e\r\n\r\n",
		"trailers, dropped":   size + "\r\n" + chatPlain + "\r\n0\r\nX-Checksum: 1\r\n\r\n",
		"two chunks":          "1\r\n{\r\n" + fmt.Sprintf("%x", len(chatPlain)-1) + "\r\n" + chatPlain[1:] + "\r\n0\r\n\r\n",
		"one byte each chunk": oneByteEach.String() + "0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := rl.dialFor(t)
			c.send(sized("POST /v1/chat/completions HTTP/1.1", "Transfer-Encoding: chunked\r\n", body))
			a := c.answer()
			if a.status != 200 {
				t.Fatalf("status %d: %s", a.status, a.body)
			}
			seen := receive(t, got)
			if !strings.HasSuffix(seen, "\r\n\r\n"+chatPlain) || !strings.Contains(seen, fmt.Sprintf("\r\nContent-Length: %d\r\n", len(chatPlain))) ||
				strings.Contains(strings.ToLower(seen), "transfer-encoding") || strings.Contains(strings.ToLower(seen), "checksum") {
				t.Errorf("upstream got %q", seen)
			}
			c.send(post("/v1/chat/completions", chatPlain)) // the connection is in step
			if a := c.answer(); a.status != 200 {
				t.Errorf("the next request: status %d", a.status)
			}
			receive(t, got)
		})
	}
}

func TestTruncatedBodyIsNotForwarded(t *testing.T) {
	up := untouched(t)
	rl := relayTo(t, up, impatient)
	chunked := chunk(chatPlain)
	for name, raw := range map[string]string{
		"length":                   sized("POST /v1/chat/completions HTTP/1.1", fmt.Sprintf("Content-Length: %d\r\n", len(chatPlain)+1), chatPlain),
		"length over 8 KiB":        sized("POST /v1/chat/completions HTTP/1.1", "Content-Length: 20000\r\n", chatPlain+strings.Repeat(" ", 10000)),
		"in a chunk":               sized("POST /v1/chat/completions HTTP/1.1", "Transfer-Encoding: chunked\r\n", chunked[:20]),
		"before the last chunk":    sized("POST /v1/chat/completions HTTP/1.1", "Transfer-Encoding: chunked\r\n", chunked),
		"in the last chunk's size": sized("POST /v1/chat/completions HTTP/1.1", "Transfer-Encoding: chunked\r\n", chunked+"0"),
		"behind the last size":     sized("POST /v1/chat/completions HTTP/1.1", "Transfer-Encoding: chunked\r\n", chunked+"0\r\n"),
		"within the last CRLF":     sized("POST /v1/chat/completions HTTP/1.1", "Transfer-Encoding: chunked\r\n", chunked+"0\r\n\r"),
		"in a trailer":             sized("POST /v1/chat/completions HTTP/1.1", "Transfer-Encoding: chunked\r\n", chunked+"0\r\nX-A: b\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			before := up.asked()
			c := rl.dialFor(t)
			c.send(raw)
			if err := c.tcp().CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if a, err := c.tryBegin("GET"); err == nil {
				a.body, _ = readAll(a)
				if !refusal(a.status) {
					t.Errorf("status %d", a.status)
				}
				c.closed()
			} else if isTimeout(err) {
				t.Error("the relay neither answered nor closed")
			}
			up.notAsked(t, before)
		})
	}
}
