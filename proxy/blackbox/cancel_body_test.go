package blackbox

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"streamrelay/telemetry"
)

// bodyCodings announce a body that is longer than what the tests send of it;
// piece frames what they send.
var bodyCodings = []struct {
	name, field string
	piece       func(string) string
}{
	{"by length", "Content-Length: 100000", verbatim},
	{"by chunks", "Transfer-Encoding: chunked", chunk},
}

// piece is more than fasthttp reads of a body before it calls the relay.
var piece = strings.Repeat("0123456789abcdef", 1024)

// A client that goes while it uploads ends the upstream's exchange, too, which
// never looks like a whole upload.
func TestAClientThatLeavesWhileItUploadsEndsTheUpstreamsExchange(t *testing.T) {
	for how, leave := range leavings {
		for _, coding := range bodyCodings {
			t.Run(how+", "+coding.name, func(t *testing.T) {
				t.Parallel()
				began, rest := make(chan struct{}), make(chan string, 1)
				up := newRawUpstream(t, nil, func(c *upstreamConn) {
					if _, err := c.readHead(); err != nil {
						return
					}
					close(began)
					b, _ := io.ReadAll(c.r)
					rest <- string(b)
				})
				rl := relayTo(t, up, "")
				c := rl.dial()
				c.send(request("POST", "/v1/files", "", "Content-Type: application/octet-stream", coding.field))
				c.send(coding.piece(piece))
				receive(t, began)
				leave(c)
				got := receive(t, rest)
				if strings.HasSuffix(got, lastChunk) || len(got) >= 100000 {
					t.Errorf("the upstream got a whole upload: %s", clip([]byte(got)))
				}
				if r := rl.one(); r.End != telemetry.ClientGone {
					t.Errorf("record: %s, status %d", r.End, r.Status)
				}
			})
		}
	}
}

// A JSON body that never comes whole reaches no upstream, even if what came of
// it is a document.
func TestAClientThatLeavesWithinItsBodyIsNotForwarded(t *testing.T) {
	document := `{"model":"m1","pad":"` + piece + `"}`
	for _, tt := range []struct{ name, field, sent string }{
		{"half a document by length", "Content-Length: 100000", document[:9000]},
		{"a document by length", "Content-Length: 100000", document},
		{"half a document by chunks", "Transfer-Encoding: chunked", chunk(document[:9000])},
		{"a document by chunks", "Transfer-Encoding: chunked", chunk(document)},
		{"no last line end", "Transfer-Encoding: chunked", chunk(document) + "0\r\n"},
		{"within the last chunk", "Transfer-Encoding: chunked", chunk(document) + "0"},
		{"within a chunk's size", "Transfer-Encoding: chunked", chunk(document) + "1"},
	} {
		for how, leave := range leavings {
			t.Run(tt.name+", "+how, func(t *testing.T) {
				t.Parallel()
				up := newUpstream(t, func(rq *received) { rq.reply(200, "{}") })
				rl := relayTo(t, up, "")
				c := rl.dial()
				c.send(request("POST", "/v1/chat/completions", "", "Content-Type: application/json", tt.field))
				c.send(tt.sent)
				eventually(t, "the exchange to begin", func() bool { return rl.tel.InFlight.Load() == 1 })
				leave(c)
				if r := rl.one(); r.End != telemetry.ClientGone {
					t.Errorf("record: %s, status %d, error %q", r.End, r.Status, r.Error)
				}
				if n := up.connections.Load(); n != 0 {
					t.Errorf("%d upstream connections", n)
				}
			})
		}
	}
}

// What came of a cut upload may reach the upstream, but no last chunk does: a
// half file is not a file.
func TestAnUploadCutAtAChunkBoundaryIsNoWholeUpload(t *testing.T) {
	for _, end := range []string{"", "0", "0\r", "0\r\n"} {
		t.Run(fmt.Sprintf("%q", end), func(t *testing.T) {
			began, rest := make(chan struct{}), make(chan string, 1)
			up := newRawUpstream(t, nil, func(c *upstreamConn) {
				if _, err := c.readHead(); err != nil {
					return
				}
				close(began)
				b, _ := io.ReadAll(c.r)
				rest <- string(b)
			})
			rl := relayTo(t, up, "")
			c := rl.dial()
			c.send(request("POST", "/v1/files", "", "Content-Type: application/octet-stream", "Transfer-Encoding: chunked"))
			receive(t, began)
			c.send(chunk("hello") + end)
			_ = c.tcp().CloseWrite()
			if got := receive(t, rest); strings.Contains(got, "0\r\n") {
				t.Errorf("the upstream got %q", got)
			}
			if r := rl.one(); r.End != telemetry.ClientGone {
				t.Errorf("record: %s, status %d", r.End, r.Status)
			}
		})
	}
}
