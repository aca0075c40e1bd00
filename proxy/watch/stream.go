package watch

import (
	"bytes"

	"streamrelay/telemetry"
)

// Family is the dialect of an answer: it decides which event is the last one.
// Usage, output and errors are recognised by their shape in every family.
type Family uint8

// The families.
const (
	Chat         Family = iota // chat completions and completions; ends with [DONE]
	Responses                  // and images and audio; ends with response.completed, .incomplete, .failed or .cancelled, or what they end with, of vLLM [DONE]
	Messages                   // Anthropic; ends with message_stop
	Interactions               // Gemini's; ends with interaction.completed, and [DONE] behind it
	Gemini                     // ends with a finishReason
	Other                      // the rest; whatever end they name
)

// A Stream watches one event stream. It belongs to one goroutine. It is meant
// to be embedded in a pooled object: Reset before use, Release after; it keeps
// no reference to what it was fed.
type Stream struct {
	// Gaps holds the times between events.
	Gaps telemetry.Gaps
	// Holds lends buffers; Reset keeps it. Nil: each is allocated.
	Holds *Holds

	family      Family
	lines       lines
	json        scanner
	usage       counts
	usageFinal  bool // the last usage was final by its event's own shape
	terminal    bool
	finished    bool // an event named a finish_reason or stop_reason
	failed      bool // an error event has passed
	firstFailed bool

	events, content                     int64
	firstEvent, firstContent, lastEvent int64
	sequence                            int64

	strip strip
}

// Reset makes s ready for a new stream. With strip, the event that include_usage
// adds is taken out of what Feed returns.
func (s *Stream) Reset(f Family, strip bool) {
	s.Release()
	holds := s.Holds
	*s = Stream{family: f, sequence: -1}
	s.Holds = holds
	s.strip.on = strip
	s.json.reset()
}

// Feed takes the next bytes of the decoded body, which came at time now (ns),
// and returns what may be sent: first held, then out. held is nearly always
// nil; it holds bytes of earlier calls, belongs to s, and is valid until the
// next call of Feed, End, Settle or Release. Without strip, out is p. With it,
// out is a part of p, and Feed may have moved bytes within p.
func (s *Stream) Feed(p []byte, now int64) (held, out []byte) {
	s.Settle()
	if len(p) == 0 {
		return nil, p
	}
	if !s.strip.on {
		s.read(p, now, nil)
		return nil, p
	}
	c := cutter{p: p}
	s.read(p, now, &c)
	return s.finish(&c)
}

// read takes p apart into lines and events; c is nil without strip.
func (s *Stream) read(p []byte, now int64, c *cutter) {
	l := &s.lines
	i := l.preamble(p)
	if l.cr { // the LF of a CRLF that was cut
		l.cr = false
		if p[0] == '\n' {
			i = 1
			if c != nil && s.strip.dropLF {
				c.from = 1
			}
		}
		s.strip.dropLF = false
	}
	lf, cr := -1, -1
	for i < len(p) {
		if lf < i {
			lf = next(p, i, '\n')
		}
		if cr < i {
			cr = next(p, i, '\r')
		}
		end := min(lf, cr)
		if end > i {
			if l.at == lineStart && !l.open && p[i] != ':' && c != nil {
				c.begin(i)
				s.strip.begin()
			}
			s.part(p[i:end])
		}
		if end == len(p) {
			break
		}
		blank := l.at == lineStart
		if !blank {
			s.endLine()
		}
		if i = end + 1; p[end] == '\r' {
			if i == len(p) {
				l.cr = true
			} else if p[i] == '\n' {
				i++
			}
		}
		if !blank {
			continue
		}
		if c != nil {
			s.cut(c, end, i)
		}
		if l.data > 0 {
			s.dispatch(now)
		}
		s.closeBlock()
	}
}

// next returns the index of c at or after i, or len(p).
func next(p []byte, i int, c byte) int {
	if n := bytes.IndexByte(p[i:], c); n >= 0 {
		return i + n
	}
	return len(p)
}

// closeBlock forgets the event and the comments before its blank line.
func (s *Stream) closeBlock() {
	s.lines.closeBlock()
	s.json.reset()
}

// dispatch counts the event that is complete and takes in what it said.
func (s *Stream) dispatch(now int64) {
	s.events++
	if s.events == 1 {
		s.firstEvent = now
	} else {
		s.Gaps.Add(now - s.lastEvent)
	}
	s.lastEvent = now

	d := &s.json.doc
	name := s.lines.event()
	if s.json.state != ended { // [DONE], text, or half a document
		s.end(name, s.lines.done())
		if name == kindError {
			s.fail()
		}
		return
	}
	k := d.kind
	if k == kindNone {
		k = name
		d.kind = k
	}
	if d.sequence >= 0 {
		s.sequence = d.sequence
	}
	if d.said.has != 0 {
		s.usage.take(&d.said)
		s.usageFinal = d.final()
	}
	if m := d.marks; m&hasOutput != 0 || m&hasDelta != 0 && k == kindDelta || m&hasBlock != 0 && k == kindBlockDelta {
		if s.content++; s.content == 1 {
			s.firstContent = now
		}
	}
	s.finished = s.finished || d.marks&hasFinish != 0
	if d.marks&hasGeminiStop != 0 && s.family >= Gemini {
		s.terminal = true
	}
	s.end(k, false)
	if d.marks&hasError != 0 || k == kindError || name == kindError || k == kindResponseFailed {
		s.fail()
	}
}

// end notes the dialect's own terminal event.
func (s *Stream) end(k kind, done bool) {
	switch s.family {
	case Chat:
		s.terminal = s.terminal || done
	case Responses:
		s.terminal = s.terminal || done || k == kindResponseEnd || k == kindResponseFailed || k == kindMediaEnd
	case Messages:
		s.terminal = s.terminal || k == kindMessageStop
	case Interactions:
		s.terminal = s.terminal || done || k == kindResponseEnd
	case Other:
		s.terminal = s.terminal || done || k == kindResponseEnd || k == kindResponseFailed ||
			k == kindMessageStop || k == kindMediaEnd
	}
}

func (s *Stream) fail() {
	s.failed = true
	if s.events == 1 {
		s.firstFailed = true
	}
}

// End is called once, when the body has ended: properly (eof), or by a cut or a
// cancel. At a proper end it returns the bytes still held, unless they are the
// event to be taken out, and an event whose blank line is missing still counts;
// after a cut they are dropped, so that the client never sees half an event of
// which it saw nothing before. A last event that was cut short is read for
// those counts that are complete.
func (s *Stream) End(now int64, eof bool) (held []byte) {
	s.Settle()
	complete := s.lines.data > 0 && (s.json.state == ended || s.lines.done())
	usageOnly := s.usageOnly()
	switch {
	case eof && complete:
		s.dispatch(now)
	case s.json.state != broken && s.json.doc.said.has != 0:
		s.usage.take(&s.json.doc.said)
		s.usageFinal = s.json.state == ended && s.json.doc.final()
	}
	if s.strip.hold.n > 0 {
		if eof && !usageOnly {
			held = s.strip.release()
		} else {
			s.Holds.put(&s.strip.hold)
			s.lines.open = false
		}
	}
	s.lines.data = 0
	s.json.reset()
	return held
}

// Settle gives back the buffer of the held bytes that Feed or End returned,
// once they were written. Without it the next call does so.
func (s *Stream) Settle() {
	if s.strip.lent.n > 0 {
		s.Holds.put(&s.strip.lent)
	}
}

// Release gives back every buffer, with what is held in it. The facts stay.
func (s *Stream) Release() {
	s.Settle()
	s.Holds.put(&s.strip.hold)
}
