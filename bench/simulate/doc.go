// Package simulate is a stand-in for an LLM provider: it speaks the OpenAI,
// Anthropic and Gemini wire formats with realistic events, and no model behind
// them. Answers are deterministic: the same request gives the same bytes but for
// the send time that each content event carries, so a client can check a stream
// to the last byte (Expect) and knows how long each event was on its way. Usage
// is exact: completion tokens are the content events of the answer, prompt
// tokens are 7 or what the request asked for, so a test can add them up. Times
// are constant, drawn from a distribution or taken from a recorded trace. What
// goes wrong (errors, stalls, cuts, events lost or altered) is asked for by the
// X-Simulate header, a freeze of the whole provider by /sim/freeze. It owns its
// listener and connections; Close ends them all and returns when the last
// goroutine has. It is cheap rather than strict: malformed requests are answered
// with 400 and the connection is closed.
package simulate
