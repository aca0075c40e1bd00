package load

import (
	"bytes"
	"errors"

	"streamrelay/bench/simulate"
)

var (
	errDiffers    = errors.New("bytes differ")
	errIncomplete = errors.New("clean end, bytes missing")
	errTooLong    = errors.New("bytes beyond the end")
)

// checker compares one answer's body with what is expected, as it comes and
// however it is cut. Only the send times may differ; from them it knows how
// long each event was on its way.
type checker struct {
	want   simulate.Expected
	run    *run
	pos    int   // bytes seen
	mark   int   // marks seen
	sent   int64 // digits seen of the current mark's send time
	digits int
}

func (k *checker) reset(want simulate.Expected) { *k = checker{want: want, run: k.run} }

// feed takes the next bytes, which came at now.
func (k *checker) feed(b []byte, now int64) error {
	for len(b) > 0 {
		next := len(k.want.Body)
		if k.mark < len(k.want.Times) {
			next = k.want.Times[k.mark]
		}
		if n := min(next-k.pos, len(b)); n > 0 {
			if !bytes.Equal(b[:n], k.want.Body[k.pos:k.pos+n]) {
				return errDiffers
			}
			k.pos += n
			b = b[n:]
			continue
		}
		if k.mark == len(k.want.Times) {
			return errTooLong
		}
		d := b[0]
		switch {
		case d >= '0' && d <= '9':
			d -= '0'
		case d >= 'a' && d <= 'f':
			d -= 'a' - 10
		default:
			return errDiffers
		}
		k.sent = k.sent<<4 | int64(d)
		k.pos++
		b = b[1:]
		if k.digits++; k.digits == simulate.TimeWidth {
			k.run.event(now - k.sent)
			k.mark++
			k.sent, k.digits = 0, 0
		}
	}
	return nil
}

// end says whether the body may end here.
func (k *checker) end() error {
	if k.pos != len(k.want.Body) {
		return errIncomplete
	}
	return nil
}
