package simulate

import "strconv"

// created is the creation time in every answer: a constant, so that answers
// can be compared byte by byte.
const created = "1700000000"

// answer is what the bodies of one answer are made from. It lives in its
// connection and is overwritten by the next request.
type answer struct {
	profile Profile
	id      string
	model   string // as a JSON string, quotes included
	usage   bool   // stream_options.include_usage
	stream  bool
	base64  bool // embeddings: encoding_format
	inputs  int  // embeddings: texts there are
}

// A shape is one API's way to say things: how its stream opens, what a content
// event looks like, how it ends. Every function appends to dst and returns it.
type shape struct {
	contentType string
	open        func(dst []byte, a *answer) []byte                        // before the first content event
	content     func(dst []byte, a *answer, i int, sent int64) []byte     // one event of profile.Size bytes
	end         func(dst []byte, a *answer) []byte                        // after the last one
	done        func(dst []byte, a *answer) []byte                        // the terminal event
	fail        func(dst []byte) []byte                                   // an error inside a stream
	json        func(dst []byte, a *answer, sent int64) []byte            // the whole answer at once
	problem     func(dst []byte, status int, kind, message string) []byte // an error instead of an answer
}

const sse = "text/event-stream; charset=utf-8"

var (
	chatShape = shape{
		contentType: sse, open: chatOpen, content: chatContent, end: chatEnd,
		done: doneEvent, fail: openaiFail, json: chatJSON, problem: openaiProblem,
	}
	completionsShape = shape{
		contentType: sse, open: nothing, content: completionsContent, end: completionsEnd,
		done: doneEvent, fail: openaiFail, json: completionsJSON, problem: openaiProblem,
	}
	responsesShape = shape{
		contentType: sse, open: responsesOpen, content: responsesContent, end: responsesEnd,
		done: responsesDone, fail: responsesFail, json: responsesJSON, problem: openaiProblem,
	}
	messagesShape = shape{
		contentType: sse, open: messagesOpen, content: messagesContent, end: messagesEnd,
		done: messagesDone, fail: messagesFail, json: messagesJSON, problem: anthropicProblem,
	}
	geminiShape = shape{
		contentType: "text/event-stream", open: nothing, content: geminiContent, end: nothing,
		done: geminiDone, fail: geminiFail, json: geminiJSON, problem: geminiProblem,
	}
	speechShape = shape{
		contentType: "audio/mpeg", open: nothing, content: speechContent, end: nothing,
		done: nothing, fail: nil, json: nil, problem: openaiProblem,
	}
	embeddingsShape    = shape{json: embeddingsJSON, problem: openaiProblem}
	modelsShape        = shape{json: modelsJSON, problem: openaiProblem}
	modelShape         = shape{json: modelJSON, problem: openaiProblem}
	imagesShape        = shape{json: imagesJSON, problem: openaiProblem}
	transcriptionShape = shape{json: transcriptionJSON, problem: openaiProblem}
	countTokensShape   = shape{json: countTokensJSON, problem: anthropicProblem}
	unknownShape       = shape{problem: openaiProblem}
)

func nothing(dst []byte, _ *answer) []byte { return dst }

func doneEvent(dst []byte, _ *answer) []byte { return append(dst, "data: [DONE]\n\n"...) }

// Errors.

func openaiProblem(dst []byte, status int, kind, message string) []byte {
	dst = append(dst, `{"error":{"message":"`...)
	dst = append(dst, message...)
	dst = append(dst, `","type":"`...)
	dst = append(dst, kind...)
	dst = append(dst, `","param":null,"code":"`...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	return append(dst, `"}}`...)
}

func openaiFail(dst []byte) []byte {
	dst = append(dst, "data: "...)
	dst = openaiProblem(dst, 500, "server_error", "simulated failure")
	return append(dst, "\n\n"...)
}

func anthropicProblem(dst []byte, _ int, kind, message string) []byte {
	dst = append(dst, `{"type":"error","error":{"type":"`...)
	dst = append(dst, kind...)
	dst = append(dst, `","message":"`...)
	dst = append(dst, message...)
	return append(dst, `"},"request_id":"req_sim"}`...)
}

func messagesFail(dst []byte) []byte {
	return append(dst, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"simulated failure\"}}\n\n"...)
}

func responsesFail(dst []byte) []byte {
	return append(dst, "event: error\ndata: {\"type\":\"error\",\"code\":\"server_error\",\"message\":\"simulated failure\",\"param\":null,\"sequence_number\":0}\n\n"...)
}

func geminiProblem(dst []byte, status int, kind, message string) []byte {
	dst = append(dst, `{"error":{"code":`...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, `,"message":"`...)
	dst = append(dst, message...)
	dst = append(dst, `","status":"`...)
	dst = append(dst, kind...)
	return append(dst, `"}}`...)
}

func geminiFail(dst []byte) []byte {
	dst = append(dst, "data: "...)
	dst = geminiProblem(dst, 500, "INTERNAL", "simulated failure")
	return append(dst, "\r\n\r\n"...)
}

// kindOf names an error in the words of the OpenAI, Anthropic and Gemini APIs.
func kindOf(status int) (openai, anthropic, gemini string) {
	switch status {
	case 400:
		return "invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT"
	case 401:
		return "authentication_error", "authentication_error", "UNAUTHENTICATED"
	case 403:
		return "permission_error", "permission_error", "PERMISSION_DENIED"
	case 404:
		return "invalid_request_error", "not_found_error", "NOT_FOUND"
	case 413:
		return "invalid_request_error", "request_too_large", "INVALID_ARGUMENT"
	case 429:
		return "rate_limit_error", "rate_limit_error", "RESOURCE_EXHAUSTED"
	case 503:
		return "server_error", "api_error", "UNAVAILABLE"
	case 529:
		return "server_error", "overloaded_error", "UNAVAILABLE"
	}
	if status < 500 {
		return "invalid_request_error", "invalid_request_error", "FAILED_PRECONDITION"
	}
	return "server_error", "api_error", "INTERNAL"
}
