package simulate

import (
	"bytes"
	"fmt"
)

// Expected is the body that a request gets, transfer coding removed.
type Expected struct {
	Body  []byte
	Times []int // where in Body the send times stand: timeWidth bytes each, which differ
}

// TimeWidth is the number of hex digits of a send time.
const TimeWidth = timeWidth

// Expect returns the answer to a POST of body on path under profile, which must
// name an ID; Drop and Alter are faults to be found, so they do not count. With usageNull the answer is what remains of a stream with usage
// when the usage event is taken out: what a relay shows to a client that did not
// ask, having asked itself.
func Expect(path, body string, profile Profile, usageNull bool) (Expected, error) {
	if profile.ID == "" {
		return Expected{}, fmt.Errorf("expect an answer on %s: the profile has no id", path)
	}
	p, query, _ := bytes.Cut([]byte(path), []byte("?"))
	r := findRoute([]byte("POST"), p, query)
	if r.shape == &unknownShape {
		return Expected{}, fmt.Errorf("expect an answer on %s: no such route", path)
	}
	a := answer{profile: profile, id: profile.ID, model: r.model}
	var memo bodyMemo
	if !r.drop {
		if err := memo.read([]byte(body), &a); err != nil {
			return Expected{}, fmt.Errorf("expect an answer on %s: %w", path, err)
		}
	}
	var b []byte
	if r.stream == always || r.stream == asked && a.stream {
		if usageNull {
			a.usage = true
		}
		b = r.shape.open(b, &a)
		for i := range profile.Events {
			b = r.shape.content(b, &a, i, 0)
		}
		end := r.shape.end(nil, &a)
		if usageNull {
			// The usage event is the last of the ending.
			end = end[:bytes.LastIndex(end[:len(end)-2], []byte("\n\n"))+2]
		}
		b = append(b, end...)
		if !profile.NoDone {
			b = r.shape.done(b, &a)
		}
	} else {
		b = r.shape.json(b, &a, 0)
	}
	e := Expected{Body: b}
	for at := 0; ; {
		i := bytes.Index(b[at:], []byte(markKey))
		if i < 0 {
			return e, nil
		}
		at += i + len(markKey)
		e.Times = append(e.Times, at)
	}
}
