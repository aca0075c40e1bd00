package watch

// geminiMember is member for the objects of Gemini's APIs.
func (n node) geminiMember(key []byte) field {
	switch n {
	case nodeGeminiUsage:
		switch string(key) {
		case "promptTokenCount":
			return fieldInput
		case "candidatesTokenCount":
			return fieldCandidateTokens
		case "thoughtsTokenCount":
			return fieldThoughtTokens
		case "toolUsePromptTokenCount":
			return fieldToolTokens
		case "cachedContentTokenCount":
			return fieldCached
		}
	case nodeCandidate:
		switch string(key) {
		case "content":
			return fieldContent
		case "finishReason":
			return fieldGeminiStop
		}
	case nodeContent:
		if string(key) == "parts" {
			return fieldParts
		}
	case nodePart:
		switch string(key) {
		case "text":
			return fieldText
		case "functionCall", "executableCode", "codeExecutionResult":
			return fieldGiven
		case "inlineData":
			return fieldInline
		}
	case nodeFeedback:
		if string(key) == "blockReason" {
			return fieldGeminiStop
		}
	case nodeStep: // a step may begin with the first of its text
		if k := string(key); k == "content" || k == "summary" {
			return fieldParts
		}
	}
	return fieldNone
}

// interactionUsage returns the meaning of a key in the usage of the Interactions
// API, which counts as generateContent does: thoughts beside the output, what
// tools put in beside the input.
func interactionUsage(key []byte) field {
	switch string(key) {
	case "total_input_tokens":
		return fieldInput
	case "total_output_tokens":
		return fieldCandidateTokens
	case "total_thought_tokens":
		return fieldThoughtTokens
	case "total_tool_use_tokens":
		return fieldToolTokens
	case "total_cached_tokens":
		return fieldCached
	}
	return fieldNone
}
