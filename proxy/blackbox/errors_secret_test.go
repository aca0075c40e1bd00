package blackbox

import (
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"streamrelay/auth"
)

// TestSecretsStayWhereTheyAre sends keys in every place and every way of
// failing, and then looks for them in all that the relay says: its log, its
// metrics, its records, its answers. Only the upstream may see the relay's own
// key, and it must never see the client's.
func TestSecretsStayWhereTheyAre(t *testing.T) {
	const (
		wrongKey = "sk-wrong-key-0123456789"
		inBody   = "secret-words-of-a-prompt"
	)
	var seen logBuffer
	var n atomic.Int64 // refused uploads may still be under way with the next request
	up := newUpstream(t, func(rq *received) {
		_, _ = seen.Write([]byte(rq.head))
		switch n.Add(1) % 7 {
		case 0:
			rq.reply(401, `{"error":{"message":"bad key `+upstreamKey+`"}}`, "X-Echo: "+upstreamKey)
		case 1:
			rq.reset()
		case 2:
			rq.send("garbage " + upstreamKey + "\r\n\r\n")
			rq.close()
		case 3:
			rq.send(streamHead + chunk("data: {\"choices\":[]}\n\n") + "zz")
			rq.close()
		case 4:
			rq.send("HTTP/1.1 200 OK\r\nX-Bad: \x00" + upstreamKey + "\r\n\r\n")
			rq.close()
		default:
			rq.reply(200, "{}")
		}
	})
	var said, records strings.Builder
	var rl *relay
	var metrics string
	t.Cleanup(func() { // after the log has been written to its end
		places := map[string]string{"an answer": said.String(), "the metrics": metrics, "a record": records.String(), "the log": rl.log.String()}
		for where, text := range places {
			for what, secret := range map[string]string{"the client's key": testKey, "a wrong key": wrongKey, "the upstream's key": upstreamKey, "a body": inBody} {
				if i := strings.Index(text, secret); i >= 0 {
					t.Errorf("%s is in %s: …%s…", what, where, clip([]byte(text[max(i-200, 0):min(i+100, len(text))])))
				}
			}
		}
	})
	rl = relayTo(t, up, "limits: {header_timeout: 500ms, body_idle_timeout: 500ms}\nlog: {level: debug, access: true}\n")
	for i := range 4 {
		for _, k := range []string{testKey, wrongKey} {
			body := fmt.Sprintf(`{"model":"m","stream":%t,"x":%q}`, i%2 == 0, inBody)
			for _, path := range []string{"/v1/chat/completions", "/v1/messages", "/v1beta/models/m:generateContent", "/openai/deployments/m/chat/completions", "/v1/models/x", "/v1/files", "/nowhere"} {
				for _, raw := range []string{
					bare("POST", path, body, "Content-Type: application/json", "Authorization: Bearer "+k),
					bare("POST", path, body, "Content-Type: application/json", "x-api-key: "+k),
					bare("POST", path+"?a=b&key="+k, body, "Content-Type: application/json"),
					bare("POST", path+"?api_key="+k+"&b", body, "Content-Type: application/json"),
					bare("POST", "http://user:"+k+"@relay"+path, body, "Content-Type: application/json", "api-key: "+k),
					bare("GET", path, "", "Upgrade: websocket", "Sec-WebSocket-Protocol: openai-insecure-api-key."+k),
					bare("POST", path, body+body, "Content-Type: application/json", "Authorization: Bearer "+k),
					bare("POST", path, body, "Content-Type: application/json", "Authorization: Bearer "+k, "x-api-key: other-"+k),
					bare("POST", path, body, "Content-Type: application/json", "Authorization: Bearer "+k, "X: a\r\n b"),
					bare("GET", path+"?key="+k, "", "Authorization: Bearer "+k, "X\x00: "+k),
					bare("GET", path+"?key="+k+"\x01", ""),
					bare("GET", path, "", "Authorization: Bearer "+k+"\x00"),
					"GET " + path + "?key=" + k + " HTTP/7.x\r\n\r\n",
					k + " " + path + " HTTP/1.1\r\nHost: relay\r\n\r\n",
					bare("POST", path, "", "Authorization: Bearer "+k, "Content-Type: application/json", "Content-Length: "+k),
					bare("POST", path, "", "Authorization: Bearer "+k, "Content-Type: application/json", "Transfer-Encoding: "+k),
					bare("POST", path, "", "Authorization: Bearer "+k, "Content-Type: application/json", "Transfer-Encoding: chunked") + k + "\r\n",
					bare("GET", path, "", "Authorization: Bearer "+k, "X-Big: "+strings.Repeat(k, 2000)),
				} {
					c := rl.dialFor(t)
					_, _ = io.WriteString(c.Conn, raw)
					if a, err := c.tryBegin("GET"); err == nil {
						text, _ := a.rest()
						said.WriteString(a.head + text)
					}
					_ = c.Close()
				}
			}
		}
	}
	eventually(t, "all is over", func() bool { return rl.tel.InFlight.Load() == 0 && rl.tel.OpenConnections.Load() == 0 })
	c := rl.dial()
	c.send("GET /metrics HTTP/1.1\r\nHost: relay\r\n\r\n")
	metrics = string(c.answer().body)
	rl.mu.Lock()
	for _, r := range rl.records {
		records.WriteString(r.RequestID + r.Tenant + r.Model + r.Method + r.Path + r.UserAgent + r.KeyID + r.Error + "\n")
	}
	rl.mu.Unlock()
	if heads := seen.String(); strings.Contains(heads, testKey) || strings.Contains(heads, wrongKey) {
		i := max(strings.Index(heads, testKey), strings.Index(heads, wrongKey))
		t.Errorf("the client's key went upstream: %s", clip([]byte(heads[max(i-300, 0):min(i+100, len(heads))])))
	}
}

// TestAKeyInTheWrongPlaceIsNotRecorded has clients put their key where none
// belongs, and which is recorded.
func TestAKeyInTheWrongPlaceIsNotRecorded(t *testing.T) {
	up := newUpstream(t, func(rq *received) { rq.reply(200, "{}") })
	key := auth.Generate()
	var rl *relay
	t.Cleanup(func() { // after the log has been written to its end
		if log := rl.log.String(); strings.Contains(log, key) || strings.Count(log, "[key]") < 5 {
			t.Errorf("the log:\n%s", log)
		}
	})
	rl = relayTo(t, up, "log: {access: true}\n")
	chat := func(model string, fields ...string) string {
		return bare("POST", "/v1/chat/completions", `{"model":"`+model+`"}`, append(fields, "Content-Type: application/json", "Authorization: Bearer "+testKey)...)
	}
	for i, raw := range []string{
		bare("GET", "/v1/"+key, "", "Authorization: Bearer "+testKey),
		bare("GET", "/v1/"+key, ""),
		bare("GET", "/v1/models/"+key, "", "Authorization: Bearer "+testKey),
		chat(key), chat("m1", "X-Request-ID: "+key), chat("m1", "User-Agent: curl "+key), chat("m1", "X-Tenant-ID: "+key),
	} {
		c := rl.dial()
		c.send(raw)
		c.answer()
		r := rl.last(i + 1)
		if text := r.RequestID + r.Tenant + r.Model + r.Path + r.UserAgent; strings.Contains(text, key) {
			t.Errorf("recorded: %s", text)
		}
	}
	c := rl.dial()
	c.send("GET /metrics HTTP/1.1\r\nHost: relay\r\n\r\n")
	if metrics := string(c.answer().body); strings.Contains(metrics, key) {
		t.Error("the metrics hold the key")
	}
}
