package watch

import "slices"

// A mark is something that the document was seen to hold.
type mark uint16

const (
	hasOutput     mark = 1 << iota // model output, whatever the event's name
	hasDelta                       // output if the event's name ends in .delta
	hasBlock                       // output if it is a content_block_delta or step.delta
	hasError                       // an error object, or a choice that ended in one
	hasFinish                      // a finish_reason or stop_reason
	hasGeminiStop                  // a finishReason or blockReason
	hasUsage                       // a top-level usage object
	hasChoice                      // choices or candidates that are not empty
	hasGemini                      // usageMetadata
	isArray                        // the root is an array
	notUsage                       // decided: this is not the event that include_usage adds
)

// A document is what has been learnt from one JSON document. Nothing in it
// refers to the bytes it came from.
type document struct {
	said     counts // of usage objects that have ended: no half-read one is believed
	counts   counts // of the usage object being read
	turns    counts // sums over its iterations
	prompt   bool   // it named prompt_tokens, input_tokens does not matter
	complete bool   // likewise completion_tokens
	aside    bool   // it is a choice's: one of the whole answer is believed before it
	kind     kind
	marks    mark
	sequence int64 // -1: none

	// ids are hashes of the stored objects that were named, in this document
	// and in those before it; filled where wantIDs says so.
	wantIDs bool
	nids    uint8
	ids     [maxIDs]uint64
}

// maxIDs is what the objects that name most hold: a batch's own id, its output
// and its errors.
const maxIDs = 4

// HashID is how ids are compared: FNV-1a, 64 bits.
func HashID[T string | []byte](id T) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(id) {
		h = (h ^ uint64(id[i])) * 0x100000001b3
	}
	return h
}

// addID takes the id of a stored object.
func (d *document) addID(id []byte) {
	h := HashID(id)
	if int(d.nids) < maxIDs && !slices.Contains(d.ids[:d.nids], h) {
		d.ids[d.nids] = h
		d.nids++
	}
}

func (d *document) reset() {
	d.said.clear()
	d.counts.clear()
	d.turns.clear()
	d.prompt, d.complete, d.aside = false, false, false
	d.kind, d.marks = kindNone, 0
	d.sequence = -1
}

// number takes a count.
func (d *document) number(f field, v int64) {
	switch f {
	case fieldSequence:
		d.sequence = v
	// Some gateways name both pairs and leave the second at 0.
	case fieldPrompt:
		d.prompt = true
		d.counts.set(slotInput, v)
	case fieldCompletion:
		d.complete = true
		d.counts.set(slotOutput, v)
	case fieldInput:
		if !d.prompt {
			d.counts.set(slotInput, v)
		}
	case fieldOutput:
		if !d.complete {
			d.counts.set(slotOutput, v)
		}
	case fieldTurnInput, fieldTurnOutput, fieldTurnCached, fieldTurnCacheWrite:
		d.turns.add(slot(f-fieldTurnInput), v)
	default:
		d.counts.set(slot(f-fieldInput), v)
	}
}

// closeUsage takes the end of a usage object.
func (d *document) closeUsage() {
	d.counts.close()
	// Anthropic's own numbers beside iterations are those of the last one alone.
	d.counts.take(&d.turns)
	d.turns.clear()
	if d.aside {
		d.counts.weak = d.counts.has
	}
	d.said.take(&d.counts)
	d.counts.clear()
	d.prompt, d.complete, d.aside = false, false, false
}

// text takes a string value. value matters only where f.named, and is nil where
// the text is too long or has escapes, as no name has.
func (d *document) text(f field, value []byte, empty bool) {
	if f == fieldType {
		if d.kind = kindOf(value); value == nil && !empty {
			d.kind = kindOther
		}
		return
	}
	if f == fieldID {
		if d.wantIDs && len(value) > 0 {
			d.addID(value)
		}
		return
	}
	if f == fieldUsage || f == fieldChoices || f == fieldRoot {
		d.marks |= notUsage
	}
	if empty {
		return
	}
	switch f {
	case fieldText, fieldOutputs:
		d.marks |= hasOutput
	case fieldEventDelta:
		d.marks |= hasDelta
	case fieldBlockText:
		d.marks |= hasBlock
	case fieldError:
		d.marks |= hasError | notUsage
	case fieldObject:
		if string(value) == "error" {
			d.marks |= hasError | notUsage
		}
	case fieldFinish:
		d.marks |= hasFinish
		if string(value) == "error" {
			d.marks |= hasError
		}
	case fieldGeminiStop:
		if string(value) != "FINISH_REASON_UNSPECIFIED" {
			d.marks |= hasGeminiStop
		}
	}
}

// scalar takes a number, true, false or null by its first byte.
func (d *document) scalar(f field, first byte) {
	switch f {
	case fieldRoot:
		d.marks |= notUsage
	case fieldError:
		if first != 'n' && first != 'f' && first != '0' {
			d.marks |= hasError | notUsage
		}
	case fieldUsage:
		d.marks |= notUsage // null, too: every other chunk carries it
	case fieldChoices:
		if first != 'n' {
			d.marks |= notUsage
		}
	}
}

// object takes the beginning of an object.
func (d *document) object(f field) {
	switch f {
	case fieldUsage:
		d.marks |= hasUsage
	case fieldChoiceUsage:
		d.aside = true
	case fieldGeminiUsage:
		d.marks |= hasGemini
	case fieldEventDelta:
		d.marks |= hasDelta
	case fieldError:
		d.marks |= hasError | notUsage
	case fieldGiven:
		d.marks |= hasOutput
	case fieldBlockText:
		d.marks |= hasBlock
	case fieldChoices:
		d.marks |= notUsage
	}
}

// array takes the beginning of an array.
func (d *document) array(f field) {
	switch f {
	case fieldRoot:
		d.marks |= isArray | notUsage
	case fieldUsage:
		d.marks |= notUsage
	case fieldError:
		d.marks |= hasError | notUsage
	}
}

// first takes the first element of an array.
func (d *document) first(n node) {
	switch n {
	case nodeChoices:
		d.marks |= hasChoice | notUsage
	case nodeCandidates:
		d.marks |= hasChoice
	case nodeOutputs:
		d.marks |= hasOutput
	}
}

// usageOnly reports whether the complete document is the event that
// include_usage adds: a usage object, and choices empty, null or missing.
func (d *document) usageOnly() bool { return d.marks&(hasUsage|notUsage) == hasUsage }

// final reports whether counts in this document are the provider's last word
// by the document's own shape, rather than a running total.
func (d *document) final() bool {
	switch d.kind {
	case kindMessageStart:
		return false
	case kindResponseEnd, kindResponseFailed, kindMediaEnd:
		return true
	case kindMessageDelta:
		return d.marks&hasFinish != 0
	}
	if d.marks&hasGemini != 0 {
		return d.marks&hasGeminiStop != 0
	}
	return d.marks&hasChoice == 0 || d.marks&hasFinish != 0
}
