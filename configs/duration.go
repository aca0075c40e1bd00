package configs

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

var (
	errDurationNoUnit  = errors.New("a duration needs a unit: write ms, s, m, h or d after the number")
	errDurationSign    = errors.New("a negative duration: write it without the sign, 0 for none")
	errDurationForm    = errors.New("not a duration: write a number and a unit, such as 500ms, 10s, 1m30s, 2h or 30d")
	errDurationTooLong = errors.New("the duration is too long: at most 106751d")
)

// ParseDuration reads what time.ParseDuration does, and whole days in front of
// it: 30d, 1d12h. 0 needs no unit; none is negative. Its errors say what is wrong without
// repeating s.
func ParseDuration(s string) (time.Duration, error) {
	if s == "0" {
		return 0, nil
	}
	if strings.HasPrefix(s, "-") {
		return 0, errDurationSign
	}
	if s != "" && strings.Trim(s, "0123456789.") == "" {
		return 0, errDurationNoUnit
	}
	days, rest, found := strings.Cut(s, "d")
	if !found {
		days, rest = "", s
	}
	var total time.Duration
	if found {
		n, err := strconv.ParseUint(days, 10, 63)
		if errors.Is(err, strconv.ErrRange) {
			return 0, errDurationTooLong
		}
		if err != nil {
			return 0, errDurationForm
		}
		if n > uint64(math.MaxInt64/day) {
			return 0, errDurationTooLong
		}
		total = time.Duration(n) * day
		if rest == "" {
			return total, nil
		}
		if rest[0] == '-' || rest[0] == '+' {
			return 0, errDurationForm
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil {
		return 0, errDurationForm
	}
	if d > math.MaxInt64-total {
		return 0, errDurationTooLong
	}
	return total + d, nil
}

// FormatDuration is the exact inverse of ParseDuration, without the zero
// minutes and seconds that time.Duration prints: 30d, 5m, 1h30m, 0s.
func FormatDuration(d time.Duration) string {
	if d >= day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
