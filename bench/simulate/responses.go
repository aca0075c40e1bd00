package simulate

// openedBy is the number of events that open a Responses stream; the sequence
// numbers of the content events go on from it.
const openedBy = 4

// responseObject appends a response object with the given status and, when
// text is true, what was said and its usage.
func responseObject(dst []byte, a *answer, status string, text bool) []byte {
	dst = append(dst, `{"id":"resp_`...)
	dst = append(dst, a.id...)
	dst = append(dst, `","object":"response","created_at":`+created+`,"status":"`...)
	dst = append(dst, status...)
	dst = append(dst, `","error":null,"incomplete_details":null,"instructions":null,"model":`...)
	dst = append(dst, a.model...)
	dst = append(dst, `,"output":[`...)
	if text {
		dst = outputItem(dst, a, "completed", true)
	}
	dst = append(dst, `],"parallel_tool_calls":true,"tool_choice":"auto","tools":[],"usage":`...)
	if !text {
		return append(dst, "null}"...)
	}
	p := &a.profile
	dst = append(dst, `{"input_tokens":`...)
	dst = appendInt(dst, p.Prompt)
	dst = append(dst, `,"input_tokens_details":{"cached_tokens":`...)
	dst = appendInt(dst, p.Cached)
	dst = append(dst, `},"output_tokens":`...)
	dst = appendInt(dst, p.Events)
	dst = append(dst, `,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":`...)
	dst = appendInt(dst, p.Prompt+p.Events)
	return append(dst, "}}"...)
}

func outputItem(dst []byte, a *answer, status string, text bool) []byte {
	dst = append(dst, `{"id":"msg_`...)
	dst = append(dst, a.id...)
	dst = append(dst, `","type":"message","status":"`...)
	dst = append(dst, status...)
	dst = append(dst, `","role":"assistant","content":[`...)
	if text {
		dst = outputText(dst, a, true)
	}
	return append(dst, "]}"...)
}

func outputText(dst []byte, a *answer, text bool) []byte {
	dst = append(dst, `{"type":"output_text","annotations":[],"text":"`...)
	if text {
		dst = appendText(dst, a.profile.Events)
	}
	return append(dst, `"}`...)
}

// named appends a named event's beginning, up to its own fields.
func named(dst []byte, name string, sequence int) []byte {
	dst = append(dst, "event: "...)
	dst = append(dst, name...)
	dst = append(dst, "\ndata: {\"type\":\""...)
	dst = append(dst, name...)
	dst = append(dst, `","sequence_number":`...)
	return appendInt(dst, sequence)
}

const ofItem = `,"output_index":0,"content_index":0`

func itemID(dst []byte, a *answer) []byte {
	dst = append(dst, `,"item_id":"msg_`...)
	dst = append(dst, a.id...)
	return append(dst, '"')
}

func responsesOpen(dst []byte, a *answer) []byte {
	dst = append(named(dst, "response.created", 0), `,"response":`...)
	dst = append(responseObject(dst, a, "in_progress", false), "}\n\n"...)
	dst = append(named(dst, "response.in_progress", 1), `,"response":`...)
	dst = append(responseObject(dst, a, "in_progress", false), "}\n\n"...)
	dst = append(named(dst, "response.output_item.added", 2), `,"output_index":0,"item":`...)
	dst = append(outputItem(dst, a, "in_progress", false), "}\n\n"...)
	dst = itemID(named(dst, "response.content_part.added", 3), a)
	dst = append(dst, ofItem+`,"part":`...)
	return append(outputText(dst, a, false), "}\n\n"...)
}

func responsesContent(dst []byte, a *answer, i int, sent int64) []byte {
	start := len(dst)
	dst = itemID(named(dst, "response.output_text.delta", openedBy+i), a)
	dst = append(dst, ofItem+`,"delta":"`...)
	dst = append(dst, word(i)...)
	dst = append(dst, `","logprobs":[],`...)
	return appendMark(dst, start, a.profile.Size, sent, i, "}\n\n")
}

func responsesEnd(dst []byte, a *answer) []byte {
	n := openedBy + a.profile.Events
	dst = itemID(named(dst, "response.output_text.done", n), a)
	dst = append(dst, ofItem+`,"text":"`...)
	dst = append(appendText(dst, a.profile.Events), "\",\"logprobs\":[]}\n\n"...)
	dst = itemID(named(dst, "response.content_part.done", n+1), a)
	dst = append(dst, ofItem+`,"part":`...)
	dst = append(outputText(dst, a, true), "}\n\n"...)
	dst = append(named(dst, "response.output_item.done", n+2), `,"output_index":0,"item":`...)
	return append(outputItem(dst, a, "completed", true), "}\n\n"...)
}

func responsesDone(dst []byte, a *answer) []byte {
	dst = append(named(dst, "response.completed", openedBy+a.profile.Events+3), `,"response":`...)
	return append(responseObject(dst, a, "completed", true), "}\n\n"...)
}

func responsesJSON(dst []byte, a *answer, _ int64) []byte {
	return responseObject(dst, a, "completed", true)
}
