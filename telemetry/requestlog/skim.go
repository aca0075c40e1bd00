package requestlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// widths are the bytes of one value of the types that have one width.
var widths = map[string]uint64{
	"UInt8": 1, "Int8": 1, "Bool": 1, "Enum8": 1,
	"UInt16": 2, "Int16": 2, "Enum16": 2, "Date": 2,
	"UInt32": 4, "Int32": 4, "Float32": 4, "DateTime": 4, "Date32": 4, "IPv4": 4,
	"UInt64": 8, "Int64": 8, "Float64": 8, "DateTime64": 8,
	"UUID": 16, "IPv6": 16, "UInt128": 16, "Int128": 16,
}

var errShort = errors.New("a length is beyond the end")

// skim goes over a block in the Native format, revision 0, and checks that every
// length in it stays within it: ch-go takes lengths at their word, and memory
// for them before it has read a byte.
func skim(native []byte) error {
	s := &skimmer{native}
	columns, err := s.uvarint()
	if err != nil {
		return err
	}
	rows, err := s.uvarint()
	if err != nil {
		return err
	}
	if rows > maxBlockRows {
		return fmt.Errorf("%d rows, more than %d", rows, maxBlockRows)
	}
	for range columns {
		name, err := s.string()
		if err != nil {
			return err
		}
		kind, err := s.string()
		if err != nil {
			return err
		}
		if strings.Count(kind, "(") > maxNesting {
			return fmt.Errorf("column %.64q: a type of more than %d levels", name, maxNesting)
		}
		if err := errors.Join(s.state(kind), s.column(kind, rows)); err != nil {
			return fmt.Errorf("column %.64q: %w", name, err)
		}
	}
	if len(s.rest) > 0 {
		return fmt.Errorf("%d bytes after the last column", len(s.rest))
	}
	return nil
}

// maxNesting is how deep a column's type may be; ours are of two levels.
const maxNesting = 8

type skimmer struct{ rest []byte }

func (s *skimmer) uvarint() (uint64, error) {
	v, n := binary.Uvarint(s.rest)
	if n <= 0 {
		return 0, errShort
	}
	s.rest = s.rest[n:]
	return v, nil
}

// skip passes over n values of a width.
func (s *skimmer) skip(n, width uint64) error {
	if n > uint64(len(s.rest))/width {
		return errShort
	}
	s.rest = s.rest[n*width:]
	return nil
}

func (s *skimmer) uint64() (uint64, error) {
	at := s.rest
	if err := s.skip(1, 8); err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(at), nil
}

func (s *skimmer) string() (string, error) {
	n, err := s.uvarint()
	if err != nil {
		return "", err
	}
	at := s.rest
	if err := s.skip(n, 1); err != nil {
		return "", err
	}
	return string(at[:n]), nil
}

// within returns the type in the brackets of another, and what stands before them.
func within(kind string) (outer, inner string) {
	outer, inner, _ = strings.Cut(kind, "(")
	return outer, strings.TrimSuffix(inner, ")")
}

// state passes over what stands before a column of some types.
func (s *skimmer) state(kind string) error {
	switch outer, inner := within(kind); outer {
	case "LowCardinality":
		return s.skip(1, 8)
	case "Array":
		return s.state(inner)
	}
	return nil
}

func (s *skimmer) column(kind string, rows uint64) error {
	outer, inner := within(kind)
	switch outer {
	case "String":
		for range rows {
			n, err := s.uvarint()
			if err != nil {
				return err
			}
			if err := s.skip(n, 1); err != nil {
				return err
			}
		}
		return nil
	case "Nullable":
		return errors.Join(s.skip(rows, 1), s.column(inner, rows))
	case "Array":
		elements := uint64(0)
		for range rows {
			end, err := s.uint64()
			if err != nil {
				return err
			}
			if end < elements {
				return errors.New("an array ends before it begins")
			}
			elements = end
		}
		return s.column(inner, elements)
	case "LowCardinality":
		return s.dictionary(inner, rows)
	}
	width := widths[outer]
	if width == 0 {
		return fmt.Errorf("type %.64q is not known", kind)
	}
	return s.skip(rows, width)
}

// dictionary passes over a LowCardinality column, which is nothing without rows.
func (s *skimmer) dictionary(kind string, rows uint64) error {
	if rows == 0 {
		return nil
	}
	flags, err := s.uint64()
	if err != nil {
		return err
	}
	values, err := s.uint64()
	if err != nil {
		return err
	}
	if err := s.column(kind, values); err != nil {
		return err
	}
	keys, err := s.uint64()
	if err != nil {
		return err
	}
	if keys != rows || flags&0xff > 3 {
		return fmt.Errorf("%d keys of kind %d for %d rows", keys, flags&0xff, rows)
	}
	return s.skip(rows, 1<<(flags&0xff))
}
