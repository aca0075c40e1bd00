package watch

// A field is what a value in the document means to us, given by the keys on
// its path. A node is an object or array that is read; all others are skipped.
type field uint8

const (
	fieldNone field = iota // of no interest
	fieldRoot              // the document itself

	// Numbers of usage, in pairs with slot.
	fieldInput
	fieldOutput
	fieldCached
	fieldCacheWrite
	fieldReasoning
	fieldCandidateTokens
	fieldThoughtTokens
	fieldToolTokens
	fieldTotal
	fieldPrompt     // prompt_tokens: Input, before any input_tokens beside it
	fieldCompletion // completion_tokens: Output, likewise
	fieldTurnInput  // of one iteration, in the order of slot; they are summed
	fieldTurnOutput
	fieldTurnCached
	fieldTurnCacheWrite
	fieldSequence

	// Texts.
	fieldText       // model output where it is not empty
	fieldBlockText  // model output in a content_block_delta or step.delta
	fieldType       // names the event
	fieldObject     // "error" in old vLLM
	fieldFinish     // finish_reason, stop_reason
	fieldID         // of a stored object, or of one that it names
	fieldGeminiStop // finishReason, blockReason

	// Values whose form alone counts.
	fieldError // anything but null, false, "", 0
	fieldGiven // model output when it is there at all

	// Containers.
	fieldElement // of an array of documents
	fieldUsage
	fieldTokens      // an object of counts elsewhere than at the top
	fieldChoiceUsage // of a choice, where Moonshot has it
	fieldCarrier
	fieldMeta
	fieldDetails
	fieldTurns
	fieldTurn
	fieldGeminiUsage
	fieldChoices
	fieldChoice
	fieldDelta
	fieldOutputs
	fieldCalls
	fieldCall
	fieldFunction
	fieldAudio
	fieldEventDelta
	fieldCandidates
	fieldCandidate
	fieldContent
	fieldParts
	fieldPart
	fieldInline
	fieldFeedback
	fieldStep
)

// number reports whether f's value is read as a number.
func (f field) number() bool { return f >= fieldInput && f <= fieldSequence }

// named reports whether f's text itself is wanted, not only whether there is any.
func (f field) named() bool { return f >= fieldType && f <= fieldGeminiStop }

type node uint8

const (
	nodeNone node = iota // outside, or skipped
	nodeRoot
	nodeUsage
	nodeCarrier // response, message, x_groq, file, interaction: hold a usage or an id
	nodeMeta
	nodeDetails
	nodeTurn
	nodeGeminiUsage
	nodeChoice
	nodeDelta
	nodeCall
	nodeFunction
	nodeAudio
	nodeEventDelta
	nodeCandidate
	nodeContent
	nodePart
	nodeInline
	nodeFeedback
	nodeStep

	nodeStream // [{…},{…}]: Gemini without alt=sse; from here on, arrays
	nodeTurns
	nodeChoices
	nodeOutputs // an array that is output when it has an element
	nodeCalls
	nodeCandidates
	nodeParts
)

func (n node) isArray() bool { return n >= nodeStream }

// member returns the meaning of a key in an object. Keys written with escapes
// are unknown: no provider escapes its own field names.
func (n node) member(key []byte) field {
	switch n {
	case nodeRoot:
		return rootMember(key)
	case nodeUsage:
		return usageMember(key)
	case nodeDetails:
		switch string(key) {
		case "cached_tokens":
			return fieldCached
		case "cache_write_tokens", "cache_creation_tokens":
			return fieldCacheWrite
		case "reasoning_tokens":
			return fieldReasoning
		}
	case nodeTurn:
		switch string(key) {
		case "input_tokens":
			return fieldTurnInput
		case "output_tokens":
			return fieldTurnOutput
		case "cache_read_input_tokens":
			return fieldTurnCached
		case "cache_creation_input_tokens":
			return fieldTurnCacheWrite
		}
	case nodeCarrier:
		switch string(key) {
		case "usage":
			return fieldTokens
		case "id":
			return fieldID
		}
	case nodeMeta:
		if string(key) == "tokens" {
			return fieldTokens
		}
	case nodeChoice:
		switch string(key) {
		case "delta":
			return fieldDelta
		case "text":
			return fieldText
		case "finish_reason":
			return fieldFinish
		case "usage":
			return fieldChoiceUsage
		}
	case nodeDelta:
		return deltaMember(key)
	case nodeCall:
		if k := string(key); k == "function" || k == "custom" {
			return fieldFunction
		}
	case nodeFunction:
		switch string(key) {
		case "name", "arguments", "input":
			return fieldText
		}
	case nodeAudio, nodeInline:
		if k := string(key); k == "data" || k == "transcript" {
			return fieldText
		}
	case nodeEventDelta:
		switch string(key) {
		case "text", "thinking", "partial_json", "content", "arguments", "partial_arguments", "data":
			return fieldBlockText
		case "stop_reason":
			return fieldFinish
		}
	default:
		return n.geminiMember(key)
	}
	return fieldNone
}

func rootMember(key []byte) field {
	switch string(key) {
	case "choices":
		return fieldChoices
	case "usage":
		return fieldUsage
	case "type", "event_type":
		return fieldType
	case "object":
		return fieldObject
	case "error":
		return fieldError
	case "delta":
		return fieldEventDelta
	case "response", "message", "x_groq", "file", "interaction":
		return fieldCarrier
	case "id", "output_file_id", "error_file_id":
		return fieldID
	case "sequence_number":
		return fieldSequence
	case "usageMetadata":
		return fieldGeminiUsage
	case "candidates":
		return fieldCandidates
	case "promptFeedback":
		return fieldFeedback
	case "step":
		return fieldStep
	case "meta":
		return fieldMeta
	case "tokens":
		return fieldTokens
	case "audio", "b64_json", "partial_image_b64": // speech, images
		return fieldText
	}
	return fieldNone
}

func usageMember(key []byte) field {
	switch string(key) {
	case "prompt_tokens":
		return fieldPrompt
	case "completion_tokens":
		return fieldCompletion
	case "input_tokens":
		return fieldInput
	case "output_tokens":
		return fieldOutput
	case "prompt_tokens_details", "completion_tokens_details", "input_tokens_details", "output_tokens_details":
		return fieldDetails
	case "cache_read_input_tokens", "prompt_cache_hit_tokens", "cached_tokens":
		return fieldCached
	case "cache_creation_input_tokens":
		return fieldCacheWrite
	case "reasoning_tokens":
		return fieldReasoning
	case "total_tokens":
		return fieldTotal
	case "iterations":
		return fieldTurns
	}
	return interactionUsage(key)
}

func deltaMember(key []byte) field {
	switch string(key) {
	case "content":
		return fieldOutputs // a text, or an array of parts (Mistral)
	case "reasoning_content", "reasoning", "refusal":
		return fieldText
	case "tool_calls":
		return fieldCalls
	case "function_call":
		return fieldFunction
	case "audio":
		return fieldAudio
	case "images":
		return fieldOutputs
	}
	return fieldNone
}

// object returns the node that an object in f's place is, nodeNone to skip it.
func (f field) object() node {
	switch f {
	case fieldRoot, fieldElement:
		return nodeRoot
	case fieldUsage, fieldTokens, fieldChoiceUsage:
		return nodeUsage
	case fieldCarrier:
		return nodeCarrier
	case fieldMeta:
		return nodeMeta
	case fieldDetails:
		return nodeDetails
	case fieldTurn:
		return nodeTurn
	case fieldGeminiUsage:
		return nodeGeminiUsage
	case fieldChoice:
		return nodeChoice
	case fieldDelta:
		return nodeDelta
	case fieldCall:
		return nodeCall
	case fieldFunction:
		return nodeFunction
	case fieldAudio:
		return nodeAudio
	case fieldEventDelta:
		return nodeEventDelta
	case fieldCandidate:
		return nodeCandidate
	case fieldContent:
		return nodeContent
	case fieldPart:
		return nodePart
	case fieldInline:
		return nodeInline
	case fieldFeedback:
		return nodeFeedback
	case fieldStep:
		return nodeStep
	}
	return nodeNone
}

// array returns the node that an array in f's place is, nodeNone to skip it.
func (f field) array() node {
	switch f {
	case fieldRoot:
		return nodeStream
	case fieldTurns:
		return nodeTurns
	case fieldChoices:
		return nodeChoices
	case fieldOutputs:
		return nodeOutputs
	case fieldCalls:
		return nodeCalls
	case fieldCandidates:
		return nodeCandidates
	case fieldParts:
		return nodeParts
	}
	return nodeNone
}

// element returns what the elements of an array are.
func (n node) element() field {
	switch n {
	case nodeStream:
		return fieldElement
	case nodeTurns:
		return fieldTurn
	case nodeChoices:
		return fieldChoice
	case nodeCalls:
		return fieldCall
	case nodeCandidates:
		return fieldCandidate
	case nodeParts:
		return fieldPart
	}
	return fieldNone
}
