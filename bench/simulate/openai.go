package simulate

import "strconv"

func appendInt(dst []byte, n int) []byte { return strconv.AppendInt(dst, int64(n), 10) }

// appendUsage appends chat's usage object.
func appendUsage(dst []byte, p *Profile) []byte {
	dst = append(dst, `{"prompt_tokens":`...)
	dst = appendInt(dst, p.Prompt)
	dst = append(dst, `,"completion_tokens":`...)
	dst = appendInt(dst, p.Events)
	dst = append(dst, `,"total_tokens":`...)
	dst = appendInt(dst, p.Prompt+p.Events)
	dst = append(dst, `,"prompt_tokens_details":{"cached_tokens":`...)
	dst = appendInt(dst, p.Cached)
	return append(dst, `},"completion_tokens_details":{"reasoning_tokens":0}}`...)
}

// chunk appends an event's beginning up to the value of "choices". As at
// OpenAI, each chunk says "usage":null where the client asked for usage.
func chunk(dst []byte, a *answer, id, object string) []byte {
	dst = append(dst, `data: {"id":"`...)
	dst = append(dst, id...)
	dst = append(dst, a.id...)
	dst = append(dst, `","object":"`...)
	dst = append(dst, object...)
	dst = append(dst, `","created":`+created+`,"model":`...)
	dst = append(dst, a.model...)
	if a.usage {
		dst = append(dst, `,"usage":null`...)
	}
	return append(dst, `,"choices":`...)
}

// usageChunk appends the extra event of stream_options.include_usage.
func usageChunk(dst []byte, a *answer, id, object string) []byte {
	if !a.usage {
		return dst
	}
	dst = append(dst, `data: {"id":"`...)
	dst = append(dst, id...)
	dst = append(dst, a.id...)
	dst = append(dst, `","object":"`...)
	dst = append(dst, object...)
	dst = append(dst, `","created":`+created+`,"model":`...)
	dst = append(dst, a.model...)
	dst = append(dst, `,"choices":[],"usage":`...)
	dst = appendUsage(dst, &a.profile)
	return append(dst, "}\n\n"...)
}

const (
	chatID     = "chatcmpl-"
	chatObject = "chat.completion.chunk"
	textID     = "cmpl-"
	textObject = "text_completion"
)

func chatOpen(dst []byte, a *answer) []byte {
	dst = chunk(dst, a, chatID, chatObject)
	return append(dst, `[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}`+"\n\n"...)
}

func chatContent(dst []byte, a *answer, i int, sent int64) []byte {
	start := len(dst)
	dst = chunk(dst, a, chatID, chatObject)
	dst = append(dst, `[{"index":0,"delta":{"content":"`...)
	dst = append(dst, word(i)...)
	dst = append(dst, `"},"finish_reason":null}],`...)
	return appendMark(dst, start, a.profile.Size, sent, i, "}\n\n")
}

func chatEnd(dst []byte, a *answer) []byte {
	dst = chunk(dst, a, chatID, chatObject)
	dst = append(dst, `[{"index":0,"delta":{},"finish_reason":"stop"}]}`+"\n\n"...)
	return usageChunk(dst, a, chatID, chatObject)
}

func chatJSON(dst []byte, a *answer, sent int64) []byte {
	dst = append(dst, `{"id":"`+chatID...)
	dst = append(dst, a.id...)
	dst = append(dst, `","object":"chat.completion","created":`+created+`,"model":`...)
	dst = append(dst, a.model...)
	dst = append(dst, `,"choices":[{"index":0,"message":{"role":"assistant","content":"`...)
	dst = appendText(dst, a.profile.Events)
	dst = append(dst, `","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":`...)
	dst = appendUsage(dst, &a.profile)
	dst = append(dst, ',')
	return appendMark(dst, len(dst), 0, sent, 0, "}")
}

func completionsContent(dst []byte, a *answer, i int, sent int64) []byte {
	start := len(dst)
	dst = chunk(dst, a, textID, textObject)
	dst = append(dst, `[{"text":"`...)
	dst = append(dst, word(i)...)
	dst = append(dst, `","index":0,"logprobs":null,"finish_reason":null}],`...)
	return appendMark(dst, start, a.profile.Size, sent, i, "}\n\n")
}

func completionsEnd(dst []byte, a *answer) []byte {
	dst = chunk(dst, a, textID, textObject)
	dst = append(dst, `[{"text":"","index":0,"logprobs":null,"finish_reason":"stop"}]}`+"\n\n"...)
	return usageChunk(dst, a, textID, textObject)
}

func completionsJSON(dst []byte, a *answer, sent int64) []byte {
	dst = append(dst, `{"id":"`+textID...)
	dst = append(dst, a.id...)
	dst = append(dst, `","object":"text_completion","created":`+created+`,"model":`...)
	dst = append(dst, a.model...)
	dst = append(dst, `,"choices":[{"text":"`...)
	dst = appendText(dst, a.profile.Events)
	dst = append(dst, `","index":0,"logprobs":null,"finish_reason":"stop"}],"usage":`...)
	dst = appendUsage(dst, &a.profile)
	dst = append(dst, ',')
	return appendMark(dst, len(dst), 0, sent, 0, "}")
}

func embeddingsJSON(dst []byte, a *answer, _ int64) []byte {
	dst = append(dst, `{"object":"list","data":[`...)
	for i := range a.inputs {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"object":"embedding","index":`...)
		dst = appendInt(dst, i)
		dst = append(dst, `,"embedding":`...)
		if a.base64 {
			dst = append(dst, `"AACAPwAAAD8AAIA+AAAAPgAAgD0AAAA9AACAPAAAADw="`...)
		} else {
			dst = append(dst, `[1,0.5,0.25,0.125,0.0625,0.03125,0.015625,0.0078125]`...)
		}
		dst = append(dst, '}')
	}
	dst = append(dst, `],"model":`...)
	dst = append(dst, a.model...)
	dst = append(dst, `,"usage":{"prompt_tokens":`...)
	dst = appendInt(dst, a.profile.Prompt)
	dst = append(dst, `,"total_tokens":`...)
	dst = appendInt(dst, a.profile.Prompt)
	return append(dst, "}}"...)
}

// modelNames are what GET /v1/models lists; any other model is served as well.
var modelNames = []string{"simulated", "Qwen/Qwen2.5-7B-Instruct", "claude-sonnet-simulated", "gemini-simulated"}

func modelsJSON(dst []byte, _ *answer, _ int64) []byte {
	dst = append(dst, `{"object":"list","data":[`...)
	for i, name := range modelNames {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = modelJSON(dst, &answer{model: `"` + name + `"`}, 0)
	}
	return append(dst, "]}"...)
}

func modelJSON(dst []byte, a *answer, _ int64) []byte {
	dst = append(dst, `{"id":`...)
	dst = append(dst, a.model...)
	return append(dst, `,"object":"model","created":`+created+`,"owned_by":"simulate"}`...)
}

func imagesJSON(dst []byte, a *answer, _ int64) []byte {
	dst = append(dst, `{"created":`+created+`,"data":[{"b64_json":"`...)
	dst = appendFiller(dst, 0, a.profile.Size&^3) // whole base64 groups
	dst = append(dst, `"}],"usage":{"input_tokens":`...)
	dst = appendInt(dst, a.profile.Prompt)
	dst = append(dst, `,"output_tokens":`...)
	dst = appendInt(dst, a.profile.Events)
	dst = append(dst, `,"total_tokens":`...)
	dst = appendInt(dst, a.profile.Prompt+a.profile.Events)
	dst = append(dst, `,"input_tokens_details":{"text_tokens":`...)
	dst = appendInt(dst, a.profile.Prompt)
	return append(dst, `,"image_tokens":0}}}`...)
}

func transcriptionJSON(dst []byte, a *answer, _ int64) []byte {
	dst = append(dst, `{"text":"`...)
	dst = appendText(dst, a.profile.Events)
	dst = append(dst, `","usage":{"type":"tokens","input_tokens":`...)
	dst = appendInt(dst, a.profile.Prompt)
	dst = append(dst, `,"output_tokens":`...)
	dst = appendInt(dst, a.profile.Events)
	dst = append(dst, `,"total_tokens":`...)
	dst = appendInt(dst, a.profile.Prompt+a.profile.Events)
	return append(dst, "}}"...)
}

// speechContent is not audio; it is bytes that a test can tell apart.
func speechContent(dst []byte, a *answer, i int, _ int64) []byte {
	return appendFiller(dst, i, max(a.profile.Size, 1))
}
