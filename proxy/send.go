package proxy

import (
	"slices"
	"strconv"

	"streamrelay/proxy/h1"
	"streamrelay/proxy/peek"
)

// oneWrite is up to which size head and body leave in one write, at the cost
// of copying the body.
const oneWrite = 64 << 10

// sendRequest writes head and body. again says that the connection had been
// closed by the upstream before it took anything, so that another may be used.
func (x *exchange) sendRequest() (again bool, e *apiError) {
	held := x.adm.body == bodyHeld
	edits := x.edits[:x.nEdits]
	bodyLen := 0
	if held {
		bodyLen = peek.EditedLen(len(x.held.B), edits)
	}
	size := len(x.ctx.Request.Header.RawHeaders()) + len(x.adm.target.path) + len(x.adm.target.query) + len(x.up.Set) + 2048
	together := held && size+bodyLen <= oneWrite
	if together {
		size += bodyLen
	}
	block := x.srv.buffers.Block(size)
	defer block.Put()
	block.B = x.appendHead(block.B, bodyLen)
	if together {
		block.B = peek.AppendEdited(block.B, x.held.B, edits)
	}
	now := x.srv.now()
	if x.obs.Attempts == 1 {
		x.obs.Overhead = now - x.ready - x.connecting
	}
	if err := x.conn.WriteBy(now, x.uploadPatience(now)); err != nil {
		return false, errUpstreamCut
	}
	n, err := x.conn.Write(block.B)
	if err != nil {
		if x.c.gone.Load() {
			return false, errUpstreamCut
		}
		return n == 0 && x.conn.Reused, errStoppedReading
	}
	if held && !together {
		e = x.sendHeld(edits)
	} else if x.adm.body == bodyStream {
		e = x.uploadBody(x.adm.head.length == lengthChunked)
	}
	if e == nil {
		x.conn.ResumeWriting()
	}
	x.sent = x.srv.now()
	return false, e
}

// sendHeld writes a large held body, with its edits, in its pieces.
func (x *exchange) sendHeld(edits []peek.Edit) *apiError {
	defer x.listen()()
	at := 0
	for i := 0; i <= len(edits); i++ {
		end := len(x.held.B)
		if i < len(edits) {
			end = edits[i].Off
		}
		for at < end {
			// In pieces, so that patience is with each and not with 64 MiB.
			n := min(end-at, 1<<20)
			if e := x.sendPiece(x.held.B[at : at+n]); e != nil {
				return e
			}
			at += n
		}
		if i < len(edits) {
			if e := x.sendPiece(edits[i].Ins); e != nil {
				return e
			}
			at += edits[i].Del
		}
	}
	return nil
}

func (x *exchange) sendPiece(p []byte) *apiError {
	if len(p) == 0 {
		return nil
	}
	now := x.srv.now()
	if err := x.conn.WriteBy(now, x.uploadPatience(now)); err != nil {
		return errUpstreamCut
	}
	if _, err := x.conn.Write(p); err != nil {
		return errStoppedReading
	}
	return nil
}

// appendHead appends the head of the upstream's request: our own fields, then
// the client's end-to-end ones as they came.
func (x *exchange) appendHead(b []byte, bodyLen int) []byte {
	a, u := &x.adm, x.up
	h := &x.ctx.Request.Header
	b = append(b, h.Method()...)
	b = append(b, ' ')
	b = append(b, u.Path...)
	if x.to.alias != nil && a.target.pathModel != nil {
		b = append(b, a.target.rest[:a.target.modelFrom]...)
		b = appendSegment(b, x.to.alias)
		b = append(b, a.target.rest[a.target.modelTo:]...)
	} else {
		b = append(b, a.target.rest...)
	}
	if len(u.Path)+len(a.target.rest) == 0 {
		b = append(b, '/')
	}
	if len(a.target.query) > 0 {
		b = append(b, '?')
		n := len(b)
		b, _ = peek.StripQuery(b, a.target.query, queryKeys[:]...)
		if len(b) == n {
			b = b[:n-1]
		}
	}
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, u.Host...)
	b = append(b, "\r\n"...)
	b = x.try.AppendTo(b, a.target.compatible)
	b = append(b, u.Set...)
	if endpoints[a.target.endpoint].model || a.target.dialect == dialectGemini {
		b = append(b, "Accept-Encoding: identity\r\n"...)
	}
	for f := h1.NewFields(h.RawHeaders()); f.Next(); {
		switch classifyRequest(f.Name) {
		case fieldTraceparent, fieldTracestate:
			if !a.head.traced { // what is not valid begins no trace elsewhere
				continue
			}
			fallthrough
		case fieldPass, fieldContentType, fieldContentEncoding, fieldAnthropicVersion, fieldUserAgent:
			if (a.head.connections > 0 && a.head.namedByConnection(f.Name)) || removed(u.Remove, f.Name) {
				continue
			}
			b = append(b, f.Name...)
			b = append(b, ": "...)
			b = append(b, f.Value...)
			b = append(b, "\r\n"...)
		}
	}
	switch {
	case a.body == bodyHeld:
		b = appendLength(b, int64(bodyLen))
	case a.body == bodyStream && a.head.length == lengthChunked:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case a.body == bodyStream:
		b = appendLength(b, int64(peek.EditedLen(int(a.head.length), x.edits[:x.nEdits])))
	case h.IsPost() || h.IsPut() || string(h.Method()) == "PATCH":
		b = append(b, "Content-Length: 0\r\n"...)
	}
	return append(b, "\r\n"...)
}

func removed(names []string, name []byte) bool {
	return slices.ContainsFunc(names, func(n string) bool { return h1.EqualFold(name, n) })
}

func appendLength(b []byte, n int64) []byte {
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, n, 10)
	return append(b, "\r\n"...)
}

// appendSegment appends s as one segment of a path (RFC 3986 §3.3).
func appendSegment(b, s []byte) []byte {
	const digits = "0123456789ABCDEF"
	for _, c := range s {
		if unreserved(c) || c == '.' {
			b = append(b, c)
		} else {
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return b
}
