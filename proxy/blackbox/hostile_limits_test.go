package blackbox

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

func TestHeadBeyondTheLimitIsRefused(t *testing.T) {
	up := untouched(t)
	rl := relayTo(t, up, "limits: {max_header: 16KiB}\n")
	for name, raw := range map[string]string{
		"many small fields":      "GET /v1/models HTTP/1.1\r\nHost: relay\r\n" + strings.Repeat("X-Filler: 0123456789\r\n", 10000) + "\r\n",
		"one field of 1 MiB":     "GET /v1/models HTTP/1.1\r\nHost: relay\r\nX-Big: " + strings.Repeat("a", 1<<20) + "\r\n\r\n",
		"one name of 1 MiB":      "GET /v1/models HTTP/1.1\r\nHost: relay\r\n" + strings.Repeat("a", 1<<20) + ": x\r\n\r\n",
		"a target of 1 MiB":      "GET /v1/" + strings.Repeat("a", 1<<20) + " HTTP/1.1\r\nHost: relay\r\n\r\n",
		"a method of 1 MiB":      strings.Repeat("A", 1<<20) + " /v1/models HTTP/1.1\r\nHost: relay\r\n\r\n",
		"never an end of line":   "GET /v1/models HTTP/1.1\r\nHost: relay\r\nX: " + strings.Repeat("a", 2<<20),
		"a folded field of 1 MB": "GET /v1/models HTTP/1.1\r\nHost: relay\r\nX: a\r\n" + strings.Repeat(" aaaaaaaaaaaaaaaa\r\n", 60000) + "\r\n",
		"one byte too much":      "GET /v1/models HTTP/1.1\r\nHost: relay\r\nX: " + strings.Repeat("a", 16<<10) + "\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			before := up.asked()
			c := rl.dialFor(t)
			go func() { _, _ = io.WriteString(c.Conn, raw) }() // the relay need not take all of it
			a, err := c.tryBegin("GET")
			if err != nil {
				t.Fatal(err)
			}
			a.body, _ = io.ReadAll(a)
			if a.status != 431 {
				t.Errorf("status %d, want 431: %s", a.status, a.body)
			}
			if e := decodeOpenAI(t, a.body); e.Code == nil || *e.Code != "headers_too_large" {
				t.Errorf("%s", a.body)
			}
			c.closed()
			up.notAsked(t, before)
		})
	}
}

func TestHeadUpToTheLimitIsServed(t *testing.T) {
	up := untouched(t)
	rl := relayTo(t, up, "limits: {max_header: 1MiB}\n")
	c := rl.dial()
	c.send(request("GET", "/v1/models", "", strings.Split(strings.TrimSuffix(strings.Repeat("X-F: 0123456789\n", 10000), "\n"), "\n")...))
	if a := c.answer(); a.status != 200 {
		t.Errorf("status %d: %s", a.status, a.body)
	}
}

func TestClientThatTricklesItsHeadIsCutOff(t *testing.T) {
	up := untouched(t)
	rl := relayTo(t, up, "limits: {header_timeout: 300ms}\n")
	for name, raw := range map[string]string{
		"says nothing":        "",
		"a partial line":      "POST /v1/chat",
		"a partial head":      "POST /v1/chat/completions HTTP/1.1\r\nHost: relay\r\nX-A: b\r\n",
		"all but the last LF": "GET /v1/models HTTP/1.1\r\nHost: relay\r\nAuthorization: Bearer " + testKey + "\r\n\r",
		"blank lines":         "\r\n\r\n",
	} {
		t.Run(name+", then silence", func(t *testing.T) { t.Parallel(); rl.cutsOff(t, up, raw, "") })
		t.Run(name+", then a trickle", func(t *testing.T) {
			t.Parallel()
			rl.cutsOff(t, up, raw, "X-Slow: "+strings.Repeat("a", 1500))
		})
	}
}

func TestClientThatTricklesItsBodyIsCutOff(t *testing.T) {
	up := newUpstream(t, func(rq *received) { rq.reply(200, "{}") })
	rl := relayTo(t, up, "limits: {body_idle_timeout: 200ms}\ntimeouts: {head: 2s}\n")
	chat := func(lines string) string { return sized("POST /v1/chat/completions HTTP/1.1", lines, "") }
	form := strings.Replace(sized("POST /v1/audio/transcriptions HTTP/1.1", "Content-Length: 100000\r\n", ""), "application/json", "multipart/form-data; boundary=b", 1)
	file := strings.Replace(sized("POST /v1/files HTTP/1.1", "Content-Length: 100000\r\n", ""), "application/json", "application/octet-stream", 1)
	for name, raw := range map[string]string{
		"nothing of a short body":    chat("Content-Length: 10000\r\n"),
		"part of a short body":       chat("Content-Length: 10000\r\n") + `{"model":`,
		"part of a long body":        chat("Content-Length: 100000\r\n") + `{"model":"m","messages":["` + strings.Repeat("a", 10000),
		"no chunk":                   chat("Transfer-Encoding: chunked\r\n"),
		"part of a chunk":            chat("Transfer-Encoding: chunked\r\n") + "100\r\n{\"model\":",
		"part of a chunk's size":     chat("Transfer-Encoding: chunked\r\n") + "1",
		"a chunk's extension":        chat("Transfer-Encoding: chunked\r\n") + "1;",
		"all but the last chunk":     chat("Transfer-Encoding: chunked\r\n") + chunk(chatPlain),
		"trailers":                   chat("Transfer-Encoding: chunked\r\n") + chunk(chatPlain) + "0\r\nX-A: ",
		"part of a form":             form + "--b\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n",
		"part of an upload":          file + strings.Repeat("a", 20000),
		"part of an upload, chunked": strings.Replace(file, "Content-Length: 100000", "Transfer-Encoding: chunked", 1) + "ffff\r\naaa",
	} {
		t.Run(name+", then silence", func(t *testing.T) { t.Parallel(); rl.cutsOffBody(t, up, raw, "") })
		t.Run(name+", then a trickle", func(t *testing.T) {
			t.Parallel()
			rl.cutsOffBody(t, up, raw, strings.Repeat("a", 1500))
		})
	}
}

// cutsOff sends raw and then trickle byte by byte, faster than any idle
// timeout, and wants 408 and the close before the trickle ends.
func (rl *relay) cutsOff(t testing.TB, up *upstream, raw, trickle string) {
	t.Helper()
	before := up.asked()
	rl.cutsOffBody(t, up, raw, trickle)
	up.notAsked(t, before)
}

func (rl *relay) cutsOffBody(t testing.TB, up *upstream, raw, trickle string) {
	t.Helper()
	before := up.requests.Load()
	c := rl.dialFor(t)
	if raw != "" {
		c.send(raw)
	}
	ended := make(chan bool, 1)
	stop := make(chan struct{})
	go func() {
		for i := range len(trickle) {
			select {
			case <-stop:
				ended <- false
				return
			case <-time.After(5 * time.Millisecond):
			}
			if _, err := io.WriteString(c.Conn, trickle[i:i+1]); err != nil {
				ended <- false
				return
			}
		}
		ended <- trickle != ""
	}()
	defer func() { close(stop); <-ended }()
	a, err := c.tryBegin("GET")
	if err != nil {
		if isTimeout(err) {
			t.Fatal("the relay waits for ever")
		}
		return // a close without an answer bounds it, too
	}
	a.body, _ = io.ReadAll(a)
	select {
	case over := <-ended:
		ended <- over
		if over {
			t.Errorf("answered only after the whole trickle, with %d", a.status)
		}
	default:
	}
	if a.status == 400 && trickle != "" {
		// What trickled in broke the framing, which was noticed first.
	} else if a.status != 408 {
		t.Errorf("status %d, want 408: %s", a.status, a.body)
	} else if e := decodeOpenAI(t, a.body); e.Code == nil || *e.Code != "request_timeout" {
		t.Errorf("%s", a.body)
	}
	c.closed()
	if n := up.requests.Load() - before; n != 0 {
		t.Errorf("the upstream got %d whole requests", n)
	}
}

func TestBodyBeyondTheLimitIsRefused(t *testing.T) {
	up := untouched(t)
	rl := relayTo(t, up, "limits: {max_body: 64KiB, max_upload: 128KiB}\n")
	long := `{"model":"m","x":"` + strings.Repeat("a", 70000) + `"}`
	file := strings.Repeat("a", 200000)
	for name, c := range map[string]struct {
		raw     string
		partial bool // the upstream may have seen the beginning
	}{
		"declared, not sent":          {raw: sized("POST /v1/chat/completions HTTP/1.1", "Content-Length: 65537\r\n", "")},
		"declared huge, not sent":     {raw: sized("POST /v1/chat/completions HTTP/1.1", "Content-Length: 99999999999\r\n", "")},
		"declared and sent":           {raw: post("/v1/chat/completions", long)},
		"chunked":                     {raw: sized("POST /v1/chat/completions HTTP/1.1", "Transfer-Encoding: chunked\r\n", chunk(long)+lastChunk)},
		"chunk of a terabyte":         {raw: sized("POST /v1/chat/completions HTTP/1.1", "Transfer-Encoding: chunked\r\n", "ffffffffff\r\n"+long)},
		"upload declared, not sent":   {raw: request("POST", "/v1/files", "", "Content-Type: application/octet-stream", "Content-Length: 131073")},
		"upload declared with expect": {raw: request("POST", "/v1/files", "", "Content-Type: application/octet-stream", "Content-Length: 131073", "Expect: 100-continue")},
		"upload chunked": {raw: strings.Replace(sized("POST /v1/files HTTP/1.1", "Transfer-Encoding: chunked\r\n", chunk(file)+lastChunk), "application/json", "application/octet-stream", 1),
			partial: true},
	} {
		t.Run(name, func(t *testing.T) {
			before, whole := up.asked(), up.requests.Load()
			cl, a := rl.speak(t, c.raw)
			if a == nil || a.status != 413 {
				t.Fatalf("%+v, want 413", a)
			}
			if e := decodeOpenAI(t, a.body); e.Code == nil || *e.Code != "request_too_large" {
				t.Errorf("%s", a.body)
			}
			cl.closed()
			if up.requests.Load() != whole {
				t.Error("the upstream got a whole request")
			}
			if !c.partial {
				up.notAsked(t, before)
			}
		})
	}
}

func TestBodyOfExactlyTheLimitIsServed(t *testing.T) {
	up := newUpstream(t, func(rq *received) { rq.reply(200, fmt.Sprint(len(rq.body))) })
	rl := relayTo(t, up, "limits: {max_body: 64KiB}\n")
	body := `{"model":"m","x":"`
	body += strings.Repeat("a", 64<<10-len(body)-2) + `"}`
	for name, raw := range map[string]string{
		"length":  post("/v1/chat/completions", body),
		"chunked": sized("POST /v1/chat/completions HTTP/1.1", "Transfer-Encoding: chunked\r\n", chunk(body)+lastChunk),
	} {
		t.Run(name, func(t *testing.T) {
			c := rl.dialFor(t)
			c.send(raw)
			if a := c.answer(); a.status != 200 || string(a.body) != "65536" {
				t.Errorf("status %d: %s", a.status, a.body)
			}
		})
	}
}
