package watch

// JSON watches an answer that is no event stream: one JSON document, several of
// them (NDJSON), or an array of them (Gemini without alt=sse). It belongs to one
// goroutine, keeps no reference to what it was fed and no buffer, and lets a
// body that is something else pass. Reset before use.
type JSON struct {
	scan  scanner
	usage counts
	marks mark
	bom   int // bytes of a leading byte order mark seen, over its length: past it
}

// Reset makes j ready for a new answer.
func (j *JSON) Reset() {
	*j = JSON{}
	j.scan.reset()
}

// Feed takes the next bytes of the decoded body.
func (j *JSON) Feed(p []byte) {
	for j.bom < len(bomMark) && len(p) > 0 {
		if p[0] != bomMark[j.bom] {
			j.bom = len(bomMark)
			break
		}
		j.bom++
		p = p[1:]
	}
	x := &j.scan
	for len(p) > 0 {
		if x.state == ended {
			if space(p[0]) {
				p = p[1:]
				continue
			}
			x.reset() // another document
		}
		p = p[x.feed(p):]
		j.marks |= x.doc.marks
		if x.doc.said.has != 0 {
			j.usage.take(&x.doc.said)
			x.doc.said.clear()
		}
	}
}

// Usage returns the last counts that the provider named, field by field; false
// when it named none. Counts are taken when their object ends, wherever it
// stands, so they survive a body that is cut later.
func (j *JSON) Usage() (Usage, bool) { return j.usage.usage() }

// Failed reports whether a document holds an error where an answer would say that
// it is one: at its top, or in a choice that ended in it. A stored object says
// so too of what failed once.
func (j *JSON) Failed() bool { return j.marks&hasError != 0 }

// Incomplete reports whether the body is Gemini's stream as an array, of which no
// chunk says why it ends: no finishReason, no blockReason, no error.
func (j *JSON) Incomplete() bool { return j.marks&(isArray|hasGeminiStop|hasError) == isArray }

// Cut reports whether the body stops within a document, so that more was to
// come. What is not JSON at all says nothing of that.
func (j *JSON) Cut() bool {
	switch x := &j.scan; x.state {
	case ended, broken:
		return false
	case wantValue, inScalar: // nothing yet, or a number that may be whole
		return x.sp > 0
	}
	return true
}
