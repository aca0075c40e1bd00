package simulate

// appendInput appends the input fields of Anthropic's usage. As there, the
// cached tokens are not part of input_tokens.
func appendInput(dst []byte, p *Profile) []byte {
	dst = append(dst, `"input_tokens":`...)
	dst = appendInt(dst, max(p.Prompt-p.Cached, 0))
	dst = append(dst, `,"cache_creation_input_tokens":0,"cache_read_input_tokens":`...)
	dst = appendInt(dst, p.Cached)
	return append(dst, `,"output_tokens":`...)
}

func messagesOpen(dst []byte, a *answer) []byte {
	dst = append(dst, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_"...)
	dst = append(dst, a.id...)
	dst = append(dst, `","type":"message","role":"assistant","model":`...)
	dst = append(dst, a.model...)
	dst = append(dst, `,"content":[],"stop_reason":null,"stop_sequence":null,"usage":{`...)
	dst = append(appendInput(dst, &a.profile), "1}}}\n\n"...)
	dst = append(dst, "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n"...)
	return append(dst, "event: ping\ndata: {\"type\":\"ping\"}\n\n"...)
}

func messagesContent(dst []byte, a *answer, i int, sent int64) []byte {
	start := len(dst)
	dst = append(dst, "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\""...)
	dst = append(dst, word(i)...)
	dst = append(dst, `"},`...)
	return appendMark(dst, start, a.profile.Size, sent, i, "}\n\n")
}

func messagesEnd(dst []byte, a *answer) []byte {
	dst = append(dst, "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n"...)
	dst = append(dst, "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":"...)
	dst = appendInt(dst, a.profile.Events)
	return append(dst, "}}\n\n"...)
}

func messagesDone(dst []byte, _ *answer) []byte {
	return append(dst, "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"...)
}

func messagesJSON(dst []byte, a *answer, sent int64) []byte {
	dst = append(dst, `{"id":"msg_`...)
	dst = append(dst, a.id...)
	dst = append(dst, `","type":"message","role":"assistant","model":`...)
	dst = append(dst, a.model...)
	dst = append(dst, `,"content":[{"type":"text","text":"`...)
	dst = appendText(dst, a.profile.Events)
	dst = append(dst, `"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{`...)
	dst = appendInput(dst, &a.profile)
	dst = appendInt(dst, a.profile.Events)
	dst = append(dst, "},"...)
	return appendMark(dst, len(dst), 0, sent, 0, "}")
}

func countTokensJSON(dst []byte, a *answer, _ int64) []byte {
	dst = append(dst, `{"input_tokens":`...)
	dst = appendInt(dst, a.profile.Prompt)
	return append(dst, '}')
}
