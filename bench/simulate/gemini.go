package simulate

// geminiCandidate appends a candidate up to the end of its text, which the caller
// closes; Gemini ends its lines with CRLF.
func geminiCandidate(dst []byte) []byte {
	return append(dst, `{"candidates":[{"content":{"parts":[{"text":"`...)
}

// geminiUsage appends usageMetadata, which Gemini counts up in every chunk.
func geminiUsage(dst []byte, a *answer, said int) []byte {
	p := &a.profile
	dst = append(dst, `"usageMetadata":{"promptTokenCount":`...)
	dst = appendInt(dst, p.Prompt)
	dst = append(dst, `,"candidatesTokenCount":`...)
	dst = appendInt(dst, said)
	dst = append(dst, `,"totalTokenCount":`...)
	dst = appendInt(dst, p.Prompt+said)
	if p.Cached > 0 {
		dst = append(dst, `,"cachedContentTokenCount":`...)
		dst = appendInt(dst, p.Cached)
	}
	dst = append(dst, `},"modelVersion":`...)
	dst = append(dst, a.model...)
	dst = append(dst, `,"responseId":"`...)
	dst = append(dst, a.id...)
	return append(dst, '"')
}

func geminiContent(dst []byte, a *answer, i int, sent int64) []byte {
	start := len(dst)
	dst = geminiCandidate(append(dst, "data: "...))
	dst = append(dst, word(i)...)
	dst = append(dst, `"}],"role":"model"},"index":0}],`...)
	dst = append(geminiUsage(dst, a, i+1), ',')
	return appendMark(dst, start, a.profile.Size, sent, i, "}\r\n\r\n")
}

// geminiDone appends the chunk with the finish reason; the API has no terminal
// event beyond it.
func geminiDone(dst []byte, a *answer) []byte {
	dst = geminiCandidate(append(dst, "data: "...))
	dst = append(dst, `"}],"role":"model"},"finishReason":"STOP","index":0}],`...)
	return append(geminiUsage(dst, a, a.profile.Events), "}\r\n\r\n"...)
}

func geminiJSON(dst []byte, a *answer, sent int64) []byte {
	dst = geminiCandidate(dst)
	dst = appendText(dst, a.profile.Events)
	dst = append(dst, `"}],"role":"model"},"finishReason":"STOP","index":0}],`...)
	dst = append(geminiUsage(dst, a, a.profile.Events), ',')
	return appendMark(dst, len(dst), 0, sent, 0, "}")
}
