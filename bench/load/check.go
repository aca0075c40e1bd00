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

// exact compares one answer's body with what the simulated provider sends, as it
// comes and however it is cut. Only the send times may differ; from them it
// knows how long each event was on its way.
type exact struct {
	want   *simulate.Expected
	pos    int   // bytes seen
	marks  int   // marks seen
	sent   int64 // digits seen of the current mark's send time
	digits int
}

func (k *exact) reset(want *simulate.Expected) { *k = exact{want: want} }

// feed takes the next bytes and calls event with the send time of each content
// event whose mark they complete.
func (k *exact) feed(b []byte, event func(sent int64)) error {
	for len(b) > 0 {
		next := len(k.want.Body)
		if k.marks < len(k.want.Times) {
			next = k.want.Times[k.marks]
		}
		if n := min(next-k.pos, len(b)); n > 0 {
			if !bytes.Equal(b[:n], k.want.Body[k.pos:k.pos+n]) {
				return errDiffers
			}
			k.pos += n
			b = b[n:]
			continue
		}
		if k.marks == len(k.want.Times) {
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
			event(k.sent)
			k.marks++
			k.sent, k.digits = 0, 0
		}
	}
	return nil
}

// end says whether the body may end here.
func (k *exact) end() error {
	if k.pos != len(k.want.Body) {
		return errIncomplete
	}
	return nil
}
