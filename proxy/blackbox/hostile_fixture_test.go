package blackbox

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"

	"streamrelay/auth"
)

// untouched returns an upstream that answers anything with an empty object,
// for tests in which it must not be asked at all.
func untouched(t testing.TB) *upstream {
	return newUpstream(t, func(rq *received) { rq.reply(200, "{}") })
}

// asked is how often the upstream was connected to or asked.
func (up *upstream) asked() int64 { return up.connections.Load() + up.requests.Load() }

// notAsked fails the test when the upstream was so much as connected to since
// it stood at before.
func (up *upstream) notAsked(t testing.TB, before int64) {
	t.Helper()
	if n := up.asked() - before; n != 0 {
		t.Errorf("the upstream saw %d connections and requests, want none", n)
	}
}

// speak opens a connection, sends raw and returns the first answer, nil when
// the relay closed without one, with the connection.
func (rl *relay) speak(t testing.TB, raw string) (*client, *answer) {
	t.Helper()
	c := rl.dialFor(t)
	_, err := io.WriteString(c.Conn, raw)
	a, beginErr := c.tryBegin("GET")
	if beginErr != nil {
		if isTimeout(beginErr) {
			t.Fatalf("the relay neither answered nor closed: %v", beginErr)
		}
		t.Logf("closed without an answer: write %v, read %v", err, beginErr)
		return c, nil
	}
	a.body, a.err = io.ReadAll(a)
	return c, a
}

// dialFor is dial for a subtest: failures and the connection's end are its.
func (rl *relay) dialFor(t testing.TB) *client {
	t.Helper()
	conn, err := net.Dial("tcp", rl.addr)
	if err != nil {
		t.Fatal(err)
	}
	return newClient(t, conn)
}

// refusal is a status that says the request is at fault: a client error, or
// one of the two server errors that RFC 9110 §15.6 and RFC 9112 §6.1 give to
// unknown codings and versions.
func refusal(status int) bool {
	return status >= 400 && status < 500 || status == 501 || status == 505
}

// refuses sends raw on a connection of its own, with an innocent request right
// behind it, and wants a refusal in an envelope, then the close, and nothing
// else: the second request is not anybody's.
func (rl *relay) refuses(t testing.TB, up *upstream, raw string) {
	t.Helper()
	before := up.asked()
	c, a := rl.speak(t, raw+request("GET", "/v1/behind", ""))
	if a == nil {
		t.Error("no answer at all")
	} else {
		if !refusal(a.status) {
			t.Errorf("status %d, want a refusal: %s", a.status, clip(a.body))
		}
		if a.get("X-Request-Id") == "" {
			t.Error("no x-request-id")
		}
		if !strings.Contains(string(a.body), `"error"`) || a.get("Content-Type") != "application/json" {
			t.Errorf("not in an envelope: %q, %s", a.get("Content-Type"), clip(a.body))
		}
		if strings.EqualFold(a.get("Connection"), "close") {
			c.closed()
		} else {
			t.Errorf("Connection %q, want close", a.get("Connection"))
		}
	}
	up.notAsked(t, before)
}

// openAIError is the envelope's content; Param and Code are nil for null.
type openAIError struct {
	Message, Type string
	Param, Code   *string
}

// decodeOpenAI reads OpenAI's envelope, which has these four keys and no other.
func decodeOpenAI(t testing.TB, body []byte) openAIError {
	t.Helper()
	var e struct {
		Error map[string]json.RawMessage `json:"error"`
	}
	strict(t, body, &e)
	var one openAIError
	for key, into := range map[string]any{"message": &one.Message, "type": &one.Type, "param": &one.Param, "code": &one.Code} {
		v, ok := e.Error[key]
		if !ok {
			t.Errorf("no %s in %s", key, body)
			continue
		}
		if err := json.Unmarshal(v, into); err != nil {
			t.Errorf("%s of %s: %v", key, body, err)
		}
	}
	if len(e.Error) != 4 {
		t.Errorf("%d keys in %s, want 4", len(e.Error), body)
	}
	return one
}

// strict decodes JSON without unknown keys and without anything behind it.
func strict(t testing.TB, body []byte, into any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(body)))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatalf("%s: %v", clip(body), err)
	}
	if _, err := d.Token(); err != io.EOF {
		t.Errorf("something behind the document: %s", clip(body))
	}
}

// uuid is the form of the relay's own request ids.
var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// sized is a request with the test's key, without Content-Type, of a version
// and with further lines, as it comes: for heads that must not be repaired.
func sized(line, lines, body string) string {
	return fmt.Sprintf("%s\r\nHost: relay\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n%s\r\n%s", line, testKey, lines, body)
}

func readAll(a *answer) ([]byte, error) { return io.ReadAll(a) }

// impatient makes a relay that waits for nothing long: where a test's request
// looks unfinished to it, that shows as 408 and not as a hang.
const impatient = "limits: {header_timeout: 1s, body_idle_timeout: 1s}\n"

func keysOf(records ...*auth.Record) []*auth.Record { return records }
