package watch

// Usage returns the last counts that the provider named, field by field; false
// when it named none.
func (s *Stream) Usage() (Usage, bool) { return s.usage.usage() }

// UsageFinal reports whether Usage is the provider's last word: it stood in an
// event that closes a stream, or the stream's own end came after it. Else it is
// a running total.
func (s *Stream) UsageFinal() bool { return s.usage.has != 0 && (s.usageFinal || s.terminal) }

// Terminal reports whether the answer is finished as its dialect says it: the
// terminal event, or an error event, has passed. What comes after is nothing
// that a client waits for.
func (s *Stream) Terminal() bool { return s.terminal || s.failed }

// Incomplete reports whether a stream that is at its end lacks what its dialect
// ends with. Chat streams of some providers lack [DONE]: a finish_reason does,
// or the usage of the whole.
func (s *Stream) Incomplete() bool {
	return s.family <= Gemini && !s.Terminal() && !(s.family == Chat && (s.finished || s.usageFinal))
}

// ErrorEvent reports whether the provider sent an error event.
func (s *Stream) ErrorEvent() bool { return s.failed }

// FirstIsError reports whether the first event was an error event.
func (s *Stream) FirstIsError() bool { return s.firstFailed }

// MidEvent reports whether bytes of an unfinished event have been returned: what
// the relay adds must first close it with an empty line, or wait. A comment
// counts, since some clients lose an event that stands in one block with it.
func (s *Stream) MidEvent() bool {
	return s.lines.comment || s.lines.open && s.strip.hold.n == 0
}

// Events returns the number of events with data, among them a withheld one.
func (s *Stream) Events() int64 { return s.events }

// ContentEvents returns the number of events that carried model output.
func (s *Stream) ContentEvents() int64 { return s.content }

// FirstEvent returns the time of the first event, 0 if there was none. An
// event's time is that of its empty line, before which no client sees it.
func (s *Stream) FirstEvent() int64 { return s.firstEvent }

// FirstContent returns the time of the first event that carried model output:
// text, reasoning, a refusal, a tool's name or arguments, audio or an image; not
// a role, an empty text or an event of the stream's life. 0 if there was none.
func (s *Stream) FirstContent() int64 { return s.firstContent }

// Sequence returns the last sequence_number of a Responses stream, -1 if there
// was none.
func (s *Stream) Sequence() int64 { return s.sequence }

// IDs returns hashes (HashID) of the stored objects that the stream named so
// far, at most four, where WantIDs was called after Reset. They are the
// Stream's own, valid until its next Reset.
func (s *Stream) IDs() []uint64 { return s.json.doc.ids[:s.json.doc.nids] }

// WantIDs makes the watcher look for the ids of stored objects.
func (s *Stream) WantIDs() { s.json.doc.wantIDs = true }

// IDs is Stream's for a document.
func (j *JSON) IDs() []uint64 { return j.scan.doc.ids[:j.scan.doc.nids] }

// WantIDs is Stream's for a document.
func (j *JSON) WantIDs() { j.scan.doc.wantIDs = true }
