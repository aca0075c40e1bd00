package requestlog

import (
	"encoding/binary"
	"encoding/hex"
	"slices"
	"unsafe"

	"github.com/ClickHouse/ch-go/proto"

	"streamrelay/telemetry"
)

// some is how many records are made columns of at a time: they stay in the
// first cache while one column after the other is made of them.
const some = 64

// filler makes columns of records. It belongs to the sealer.
type filler struct {
	learned map[string]*model // that upstreams have answered to
	names   *names            // of the records at hand
	recent  [16]*model        // by a few bytes of their names, under names
	models  [some]*model      // of the records at hand; nil: not known
	at      [some]uint32      // of the records at hand: where the next text begins
	fixed   [16]fixed         // by a few of their bits; of the batch at hand
	hex     [48]byte
}

// fixed is what a record names by numbers, and the ids of those names in the
// dictionaries of instance, endpoint, upstream, credential and end reason. An
// end reason is never without an id, so that no fixed is all zero.
type fixed struct {
	endpoint, upstream, credential int16
	end                            telemetry.EndReason
	ids                            [5]uint16
}

// fill appends rows for all records of b, copying their text.
func (c *columns) fill(f *filler, b *records) {
	if f.names != b.names {
		f.names, f.recent = b.names, [16]*model{}
	}
	f.fixed = [16]fixed{}
	for list := b.list; len(list) > 0; {
		n := min(some, len(list))
		c.fillSome(f, b, list[:n])
		list = list[n:]
	}
}

func (c *columns) fillSome(f *filler, b *records, list []record) {
	n := f.names
	for i := range list {
		q := &list[i]
		f.at[i] = q.text
		c.id = append(c.id, q.id)
		c.clientIP = append(c.clientIP, q.client)
	}
	for i := range list {
		q := &list[i]
		c.ts.ColInt64 = append(c.ts.ColInt64, q.start/1e6)
		c.status = append(c.status, q.status)
		c.upstreamStatus = append(c.upstreamStatus, q.upstreamStatus)
		c.stream = append(c.stream, q.stream)
		c.attempts = append(c.attempts, q.attempts)
		c.usageSource.ColInt8 = append(c.usageSource.ColInt8, int8(q.usageSource))
	}
	for k, col := range c.times {
		v := grown(col, len(list))
		for i := range v {
			v[i] = micros(list[i].times[k])
		}
	}
	for k, col := range c.counts {
		v := grown(col, len(list))
		for i := range v {
			v[i] = count(list[i].counts[k])
		}
	}
	for k, col := range c.tokens {
		v := grown(col, len(list))
		for i := range v {
			v[i] = 0
			if list[i].usageSource != telemetry.UsageUnknown {
				v[i] = count(list[i].tokens[k])
			}
		}
	}

	for i := range list {
		q := &list[i]
		x := &f.fixed[int(uint16(q.upstream)*5+uint16(q.credential)*3+uint16(q.end))&(len(f.fixed)-1)]
		if *x == (fixed{}) || x.endpoint != q.endpoint || x.upstream != q.upstream || x.credential != q.credential || x.end != q.end {
			*x = fixed{q.endpoint, q.upstream, q.credential, q.end, [...]uint16{
				c.instance.id(n.instance), c.endpoint.id(n.endpoint(int(q.endpoint))), c.upstream.id(n.upstream(int(q.upstream))),
				c.credential.id(n.credential(int(q.upstream), int(q.credential))), c.endReason.id(q.end.Known().String()),
			}}
		}
		c.instance.keys = append(c.instance.keys, x.ids[0])
		c.endpoint.keys = append(c.endpoint.keys, x.ids[1])
		c.upstream.keys = append(c.upstream.keys, x.ids[2])
		c.credential.keys = append(c.credential.keys, x.ids[3])
		c.endReason.keys = append(c.endReason.keys, x.ids[4])
	}
	for i := range list { // in the order in which they stand
		if id := f.next(b, list, i, textRequestID); isID(id, &list[i].id) {
			c.clientRequestID.Append("")
		} else {
			c.clientRequestID.Append(id)
		}
	}
	f.dict(c.tenant, b, list, textTenant)
	f.dict(c.keyID, b, list, textKey)
	f.dict(c.method, b, list, textMethod)
	for i := range list {
		name := f.next(b, list, i, textModel)
		m := f.model(&list[i], name)
		f.models[i] = m
		if priced := f.next(b, list, i, textUpstreamModel); priced != "" {
			f.models[i] = n.models[priced]
		}
		switch {
		case m != nil:
			c.model.add(m.name)
			name = ""
		case name != "":
			c.model.add(other)
			name = name[:min(len(name), maxText)]
		default:
			c.model.add("")
		}
		c.modelRequested.Append(name)
	}
	f.dict(c.userAgent, b, list, textUserAgent)
	for i := range list {
		c.upstreamID.Append(f.next(b, list, i, textUpstreamID))
	}
	f.dict(c.err, b, list, textError)

	for i := range list {
		q := &list[i]
		if m := f.models[i]; m != nil && m.price != nil && q.usageSource != telemetry.UsageUnknown {
			c.cost.add(m.price.cost(&q.tokens, n.excludesCache(int(q.upstream))), true)
		} else {
			c.cost.add(0, false)
		}
	}
	for i := range list {
		q := &list[i]
		rest := b.text[f.at[i]:]
		for range q.tries {
			at := func(i int) int { return int(int16(binary.LittleEndian.Uint16(rest[i:]))) }
			c.addTry(n.upstream(at(0)), n.credential(at(0), at(2)), uint16(at(4)), min(telemetry.UpstreamFailure(rest[6]), telemetry.FailureUnknown).String())
			rest = rest[tryBytes:]
		}
		c.endTries()
		if q.traceID == [16]byte{} {
			c.traceID.Append("")
			c.parentSpanID.Append("")
			continue
		}
		hex.Encode(f.hex[:32], q.traceID[:])
		hex.Encode(f.hex[32:], q.parentID[:])
		c.traceID.Append(unsafe.String(&f.hex[0], 32))
		c.parentSpanID.Append(unsafe.String(&f.hex[32], 16))
	}
}

// grown appends n values to col and returns them, to be set.
func grown(col *proto.ColUInt64, n int) []uint64 {
	at := len(*col)
	*col = slices.Grow(*col, n)[:at+n]
	return (*col)[at:]
}

// next is the next text of the i-th record. It is b's memory.
func (f *filler) next(b *records, list []record, i, which int) string {
	n := uint32(list[i].lengths[which])
	s := b.text[f.at[i] : f.at[i]+n]
	f.at[i] += n
	return unsafe.String(unsafe.SliceData(s), n)
}

func (f *filler) dict(d *dict, b *records, list []record, which int) {
	for i := range list {
		d.add(f.next(b, list, i, which))
	}
}

// hexPairs are the two digits of each byte, the first one in the low bits.
var hexPairs = func() (pairs [256]uint16) {
	for b := range pairs {
		var text [2]byte
		hex.Encode(text[:], []byte{byte(b)})
		pairs[b] = binary.LittleEndian.Uint16(text[:])
	}
	return pairs
}()

// idAt says where the digits of each byte stand in the text of an id.
var idAt = [16]int{0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34}

// isID reports whether text is id as telemetry.AppendID writes it.
func isID(text string, id *[16]byte) bool {
	if len(text) != 36 {
		return false
	}
	b := (*[36]byte)(unsafe.Pointer(unsafe.StringData(text)))
	other := uint16(b[8] ^ '-' | b[13] ^ '-' | b[18] ^ '-' | b[23] ^ '-')
	for i, at := range idAt {
		other |= binary.LittleEndian.Uint16(b[at:]) ^ hexPairs[id[i]]
	}
	return other == 0
}
