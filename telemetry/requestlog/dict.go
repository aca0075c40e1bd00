package requestlog

import (
	"github.com/ClickHouse/ch-go/proto"
)

// dict is a LowCardinality(String) column that is appended to without
// allocations: values are copied once, when they are new. ch-go's own
// ColLowCardinality keeps the appended strings until the flush, which are parts
// of a request's buffers here, and costs a map per block.
type dict struct {
	ids    map[string]uint16
	values []string // our own copies; values[0] is ""
	keys   []uint16 // one a row
	limit  int      // of values; what is new beyond it is "other"
	// recent remembers ids by a few bytes of their values, which spares most
	// rows the map. A wrong guess is seen by comparing.
	recent [16]uint16
}

// maxDict is how many values a dictionary may have: keys are 16 bits wide, and
// a batch never has more rows than that.
const maxDict = 1 << 16

func newDict(limit int) *dict {
	d := &dict{ids: make(map[string]uint16), limit: limit}
	d.clear()
	return d
}

// clear forgets all values.
func (d *dict) clear() {
	clear(d.ids)
	clear(d.values)
	d.values = append(d.values[:0], "")
	d.ids[""] = 0
	clear(d.recent[:])
}

// add appends a row with the value v, which it copies where it keeps it.
func (d *dict) add(v string) { d.keys = append(d.keys, d.id(v)) }

// id is the number of the value v, which it copies where it keeps it.
func (d *dict) id(v string) uint16 {
	if v == "" {
		return 0
	}
	at := &d.recent[short(v)&(len(d.recent)-1)]
	id := *at
	if d.values[id] != v {
		id = d.find(v)
		*at = id
	}
	return id
}

// short is a hash of a few bytes of v, which is not empty.
func short(v string) int {
	n := len(v)
	return int(v[0]) ^ int(v[n-1])*7 ^ int(v[n/2])*3 ^ n
}

func (d *dict) find(v string) uint16 {
	if id, ok := d.ids[v]; ok {
		return id
	}
	return d.learn(v)
}

func (d *dict) learn(v string) uint16 {
	if len(d.values) >= d.limit {
		v = other
		if id, ok := d.ids[v]; ok {
			return id
		}
		if len(d.values) == maxDict {
			return 0
		}
	}
	id := uint16(len(d.values))
	v = string([]byte(v)) // v may be a part of a request's buffer
	d.values = append(d.values, v)
	d.ids[v] = id
	return id
}

// Reset takes the rows away. The values stay, for the next block's rows are
// most often like these, unless they are many more than the rows need, or as many
// as there may be: nothing new would be known any more.
func (d *dict) Reset() {
	if len(d.values) > 64 && len(d.values) > len(d.keys) || len(d.values) > 4096 || len(d.values) >= d.limit {
		d.clear()
	}
	d.keys = d.keys[:0]
}

// Type implements proto.ColInput.
func (d *dict) Type() proto.ColumnType { return "LowCardinality(String)" }

// Rows implements proto.ColInput.
func (d *dict) Rows() int { return len(d.keys) }

// EncodeState implements proto.StateEncoder: the version of the keys'
// serialization, SharedDictionariesWithAdditionalKeys.
func (d *dict) EncodeState(b *proto.Buffer) { b.PutInt64(1) }

// EncodeColumn implements proto.ColInput (ClickHouse's
// SerializationLowCardinality): the width of the keys with the flags
// "additional keys" and "update dictionary", the values, the keys. Of no rows,
// as where all arrays are empty, nothing is written.
func (d *dict) EncodeColumn(b *proto.Buffer) {
	if len(d.keys) == 0 {
		return
	}
	const flags = 1<<9 | 1<<10
	narrow := d.keyBytes() == 1
	if narrow {
		b.PutInt64(flags)
	} else {
		b.PutInt64(flags | 1)
	}
	b.PutInt64(int64(len(d.values)))
	for _, v := range d.values {
		b.PutString(v)
	}
	b.PutInt64(int64(len(d.keys)))
	if narrow {
		for _, k := range d.keys {
			b.Buf = append(b.Buf, byte(k))
		}
		return
	}
	for _, k := range d.keys {
		b.Buf = append(b.Buf, byte(k), byte(k>>8))
	}
}

// keyBytes is how wide a key is in the format.
func (d *dict) keyBytes() int {
	if len(d.values) <= 256 {
		return 1
	}
	return 2
}

// WriteColumn implements proto.ColInput.
func (d *dict) WriteColumn(w *proto.Writer) { w.ChainBuffer(d.EncodeColumn) }
