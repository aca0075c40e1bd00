package blackbox

import (
	"strings"
	"testing"

	"streamrelay/telemetry"
)

// TestAStreamWithoutItsDialectsEndIsNotCompleted: what HTTP ends properly is
// passed on as it came, its end too, and the record says what was missing.
func TestAStreamWithoutItsDialectsEndIsNotCompleted(t *testing.T) {
	const (
		delta   = `data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}` + "\n\n"
		stopped = `data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n"
		created = "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0}\n\n"
		ended   = "event: response.completed\ndata: {\"type\":\"response.completed\",\"sequence_number\":1}\n\n"
		begun   = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{}}\n\n"
		part    = `data: {"candidates":[{"content":{"parts":[{"text":"a"}]}}]}` + "\r\n\r\n"
		finish  = `data: {"candidates":[{"content":{"parts":[{"text":"b"}]},"finishReason":"MAX_TOKENS"}]}` + "\r\n\r\n"
		blocked = `data: {"promptFeedback":{"blockReason":"SAFETY"}}` + "\r\n\r\n"
		gemini  = "/v1beta/models/m1:streamGenerateContent?alt=sse"
		stop    = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
	)
	for name, c := range map[string]struct {
		path, body string
		end        telemetry.EndReason
	}{
		"chat":                               {"/v1/chat/completions", delta, telemetry.UpstreamIncomplete},
		"chat with [DONE] alone":             {"/v1/chat/completions", delta + doneEvent, telemetry.Completed},
		"chat with a finish_reason alone":    {"/v1/chat/completions", delta + stopped, telemetry.Completed},
		"chat, torn":                         {"/v1/chat/completions", delta + `data: {"choi`, telemetry.UpstreamIncomplete},
		"chat, nothing":                      {"/v1/chat/completions", "", telemetry.UpstreamIncomplete},
		"Responses":                          {"/v1/responses", created, telemetry.UpstreamIncomplete},
		"Responses, whole":                   {"/v1/responses", created + ended, telemetry.Completed},
		"Responses with [DONE] alone":        {"/v1/responses", created + doneEvent, telemetry.Completed},
		"a transcription of vLLM's":          {"/v1/audio/transcriptions", delta + doneEvent, telemetry.Completed},
		"a transcription of vLLM's, no end":  {"/v1/audio/transcriptions", delta, telemetry.UpstreamIncomplete},
		"messages":                           {"/v1/messages", begun, telemetry.UpstreamIncomplete},
		"messages, whole":                    {"/v1/messages", begun + stop, telemetry.Completed},
		"Gemini":                             {gemini, part, telemetry.UpstreamIncomplete},
		"Gemini, nothing":                    {gemini, "", telemetry.UpstreamIncomplete},
		"Gemini, whole":                      {gemini, part + finish, telemetry.Completed},
		"Gemini, a prompt that was blocked":  {gemini, blocked, telemetry.Completed},
		"a stream that nobody knows the end": {"/v1/other", "data: {}\n\n", telemetry.Completed},
	} {
		for _, carrier := range carriers {
			t.Run(name+", "+carrier, func(t *testing.T) {
				t.Parallel()
				up := newUpstream(t, func(rq *received) {
					body := lastChunk
					if c.body != "" {
						body = chunk(c.body) + lastChunk
					}
					rq.send(streamHead + body)
				})
				dialect := "openai"
				switch {
				case strings.HasSuffix(c.path, "/messages"):
					dialect = "anthropic"
				case c.path == gemini:
					dialect = "gemini"
				}
				rl := startRelay(t, "upstreams: [{name: up, base_url: \"http://"+up.addr+"/v1\", dialect: "+dialect+", credentials: [{value: k}]}]\nstream: {carrier: "+carrier+"}\n")
				conn := rl.dial()
				conn.send(post(c.path, chatStream))
				if a := conn.answer(); a.status != 200 || a.err != nil || string(a.body) != c.body {
					t.Errorf("status %d, %v, %q", a.status, a.err, a.body)
				}
				if r := rl.one(); r.End != c.end {
					t.Errorf("record: %s, want %s", r.End, c.end)
				}
			})
		}
	}
}
