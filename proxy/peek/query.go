package peek

import "bytes"

// QueryValue finds the first parameter of that name in a raw query (without its
// question mark). val is its value as written, see AppendUnescaped;
// query[start:end] is the whole of it, without an ampersand on either side.
//
// Parameters are cut at ampersands only: a semicolon belongs to a value. Names are
// compared after percent-decoding, in exact case; a name without = is none.
func QueryValue(query []byte, name string) (val []byte, start, end int, ok bool) {
	for start <= len(query) {
		end = segmentEnd(query, start)
		if val, ok := valueOf(query[start:end], name); ok {
			return val, start, end, true
		}
		start = end + 1
	}
	return nil, 0, 0, false
}

// StripQuery appends to dst the query without the parameters of the given names,
// which it finds as QueryValue does. What stays, stays as it came. val is the
// value of the first one taken out, as written; nil where there was none.
// dst must not overlap query.
func StripQuery(dst, query []byte, names ...string) (out, val []byte) {
	first := true
	for start := 0; start <= len(query); {
		end := segmentEnd(query, start)
		segment := query[start:end]
		start = end + 1
		if v, ok := valueOfAny(segment, names); ok {
			if val == nil {
				val = v
			}
			continue
		}
		if !first {
			dst = append(dst, '&')
		}
		first = false
		dst = append(dst, segment...)
	}
	return dst, val
}

// QueryAgrees reports whether all parameters of the given names have the same
// value as written; true also where there is none. Two that differ are two
// credentials.
func QueryAgrees(query []byte, names ...string) bool {
	var seen []byte
	for start := 0; start <= len(query); {
		end := segmentEnd(query, start)
		if v, ok := valueOfAny(query[start:end], names); ok {
			if seen != nil && !bytes.Equal(seen, v) {
				return false
			}
			seen = v
		}
		start = end + 1
	}
	return true
}

// AppendUnescaped appends the key that val, of a query, stands for: %XX is a byte.
// A bad % stands for itself, and so does a plus, which people who write a key
// into a URL by hand do not encode; no key has a space.
func AppendUnescaped(dst, val []byte) []byte {
	for len(val) > 0 {
		c, n := queryByte(val)
		if n == 1 {
			c = val[0]
		}
		dst = append(dst, c)
		val = val[n:]
	}
	return dst
}

func segmentEnd(query []byte, start int) int {
	if n := bytes.IndexByte(query[start:], '&'); n >= 0 {
		return start + n
	}
	return len(query)
}

func valueOfAny(segment []byte, names []string) ([]byte, bool) {
	for _, name := range names {
		if val, ok := valueOf(segment, name); ok {
			return val, true
		}
	}
	return nil, false
}

// valueOf is what follows name= where the segment begins with that. It is not nil
// where it is empty.
func valueOf(segment []byte, name string) ([]byte, bool) {
	for k := 0; k < len(name); k++ {
		if len(segment) == 0 || segment[0] == '=' {
			return nil, false
		}
		c, n := queryByte(segment)
		if c != name[k] {
			return nil, false
		}
		segment = segment[n:]
	}
	if len(segment) == 0 || segment[0] != '=' {
		return nil, false
	}
	return segment[1:], true
}

// queryByte decodes the first byte of b, which is not empty, and its length as
// written. A bad % stands for itself.
func queryByte(b []byte) (byte, int) {
	switch {
	case b[0] == '+':
		return ' ', 1
	case b[0] == '%' && len(b) >= 3 && hexDigit(b[1]) >= 0 && hexDigit(b[2]) >= 0:
		return byte(hexDigit(b[1])<<4 | hexDigit(b[2])), 3
	}
	return b[0], 1
}
