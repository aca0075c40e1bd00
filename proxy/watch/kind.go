package watch

import "bytes"

// A kind is what an event's name says about it. The name is the JSON's "type"
// or, without one, the event field.
type kind uint8

const (
	kindNone kind = iota
	kindOther
	kindError
	kindDelta          // *.delta: output text, reasoning, arguments, audio, …
	kindBlockDelta     // content_block_delta, step.delta: output by what is in it
	kindMessageStart   // message_start
	kindMessageDelta   // message_delta
	kindMessageStop    // message_stop
	kindResponseEnd    // response.completed, .incomplete, .cancelled; interaction.completed
	kindResponseFailed // response.failed
	kindMediaEnd       // the last event of images, speech and transcriptions
)

// kindOf classifies an event's name.
func kindOf(name []byte) kind {
	switch string(name) {
	case "":
		return kindNone
	case "error":
		return kindError
	case "content_block_delta", "step.delta", "content.delta": // the last before Api-Revision 2026-05-20
		return kindBlockDelta
	case "message_start":
		return kindMessageStart
	case "message_delta":
		return kindMessageDelta
	case "message_stop":
		return kindMessageStop
	case "response.completed", "response.incomplete", "response.cancelled", "interaction.completed", "interaction.complete":
		return kindResponseEnd
	case "response.failed":
		return kindResponseFailed
	case "transcript.text.done", "speech.audio.done", "image_generation.completed", "image_edit.completed":
		return kindMediaEnd
	}
	if bytes.HasSuffix(name, []byte(".delta")) {
		return kindDelta
	}
	return kindOther
}
