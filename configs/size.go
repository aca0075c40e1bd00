package configs

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes. Its text form has a unit: 16KiB, 64MiB, 10GiB
// (powers of 1024), 500KB, 1MB (powers of 1000), 200B; 0 needs none.
type Size int64

// The binary units.
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
	TiB Size = 1 << 40
)

type sizeUnit struct {
	name  string
	bytes Size
}

var sizeUnits = [...]sizeUnit{
	{"TiB", TiB}, {"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3},
	{"B", 1},
}

var (
	errSizeNoUnit  = errors.New("a size needs a unit: write B, KiB, MiB or GiB (or KB, MB, GB) after the number")
	errSizeForm    = errors.New("not a size: write a whole number and a unit, such as 64MiB")
	errSizeUnit    = errors.New("unknown unit of size: write B, KiB, MiB, GiB or TiB (or KB, MB, GB, TB), in this spelling")
	errSizeTooLong = errors.New("the size is too large: at most 8388607TiB")
)

// ParseSize reads a size. Its errors say what is wrong without repeating s.
func ParseSize(s string) (Size, error) {
	if s == "0" {
		return 0, nil
	}
	digits := 0
	for digits < len(s) && '0' <= s[digits] && s[digits] <= '9' {
		digits++
	}
	if digits == 0 {
		return 0, errSizeForm
	}
	if digits == len(s) {
		return 0, errSizeNoUnit
	}
	for _, u := range sizeUnits {
		if s[digits:] != u.name {
			continue
		}
		n, err := strconv.ParseInt(s[:digits], 10, 64)
		if err != nil || n > math.MaxInt64/int64(u.bytes) {
			return 0, errSizeTooLong
		}
		return Size(n) * u.bytes, nil
	}
	if strings.ContainsAny(s[digits:], ".,-+") {
		return 0, errSizeForm
	}
	return 0, errSizeUnit
}

// String gives the shortest exact text form.
func (s Size) String() string {
	if s == 0 {
		return "0B"
	}
	best := sizeUnits[len(sizeUnits)-1]
	for _, u := range sizeUnits {
		if s%u.bytes == 0 && u.bytes > best.bytes {
			best = u
		}
	}
	return strconv.FormatInt(int64(s/best.bytes), 10) + best.name
}

// MarshalText gives what String does.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is ParseSize.
func (s *Size) UnmarshalText(text []byte) error {
	n, err := ParseSize(string(text))
	if err == nil {
		*s = n
	}
	return err
}
