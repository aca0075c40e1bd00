package proxy

import "encoding/hex"

// traceContext is what a client's traceparent field says
// (https://www.w3.org/TR/trace-context/#traceparent-header). The relay makes no
// span of its own: the field goes on as it came, and the record names both ids.
type traceContext struct {
	trace  [16]byte
	parent [8]byte
}

// traceparentLength is that of version 00; a later version may go on behind it.
const traceparentLength = len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")

// parse reads a traceparent, and reports whether it is valid.
func (t *traceContext) parse(v []byte) bool {
	*t = traceContext{}
	if len(v) < traceparentLength || v[2] != '-' || v[35] != '-' || v[52] != '-' {
		return false
	}
	if len(v) > traceparentLength && (string(v[:2]) == "00" || v[traceparentLength] != '-') {
		return false
	}
	for _, c := range v[:traceparentLength] {
		if c >= 'A' && c <= 'F' {
			return false // hex of lower case alone
		}
	}
	var version, flags [1]byte
	var read traceContext
	for _, p := range [...]struct{ dst, src []byte }{
		{version[:], v[:2]}, {read.trace[:], v[3:35]}, {read.parent[:], v[36:52]}, {flags[:], v[53:55]},
	} {
		if _, err := hex.Decode(p.dst, p.src); err != nil {
			return false
		}
	}
	if version[0] == 0xff || read.trace == [16]byte{} || read.parent == [8]byte{} {
		return false
	}
	*t = read
	return true
}
