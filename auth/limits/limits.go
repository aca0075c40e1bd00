package limits

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Money is in billionths of a US dollar: exact for prices per million tokens
// down to a thousandth of a dollar, without a float in any sum.
type Money int64

// Dollar is one US dollar.
const Dollar Money = 1e9

// maxMoney bounds a budget: sums of it do not overflow.
const maxMoney = 1e9 * Dollar

// String gives dollars with as many decimals as it takes, at least two: 12.50.
func (m Money) String() string {
	sign, v := "", int64(m)
	if v < 0 {
		sign, v = "-", -v
	}
	cents := strings.TrimRight(fmt.Sprintf("%09d", v%int64(Dollar)), "0")
	for len(cents) < 2 {
		cents += "0"
	}
	return sign + strconv.FormatInt(v/int64(Dollar), 10) + "." + cents
}

// MarshalText gives dollars.
func (m Money) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// MarshalJSON gives dollars as a number.
func (m Money) MarshalJSON() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalJSON reads dollars as a number.
func (m *Money) UnmarshalJSON(b []byte) (err error) {
	*m, err = ParseMoney(string(b))
	return err
}

var errMoney = errors.New("want US dollars, such as 12.50, from 0 to 1000000000, with at most 9 decimals")

// ParseMoney reads dollars as decimal digits, without a currency.
func ParseMoney(s string) (Money, error) {
	whole, part, _ := strings.Cut(s, ".")
	if whole == "" || len(part) > 9 || strings.Trim(whole+part, "0123456789") != "" || strings.HasSuffix(s, ".") {
		return 0, errMoney
	}
	dollars, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || dollars > int64(maxMoney/Dollar) {
		return 0, errMoney
	}
	nanos, err := strconv.ParseInt((part + "000000000")[:9], 10, 64)
	if err != nil {
		return 0, errMoney
	}
	m := Money(dollars)*Dollar + Money(nanos)
	if m > maxMoney {
		return 0, errMoney
	}
	return m, nil
}

// Limits are what a key or a tenant may use; 0 is no limit. The zero value
// limits nothing.
type Limits struct {
	Requests    int64         // per minute
	Tokens      int64         // per minute, of prompts and answers together
	Concurrent  int64         // requests at the same time
	Burst       time.Duration // how much of a minute may be used at once; 0: all of it
	BudgetDay   Money         // per day, from midnight UTC
	BudgetMonth Money         // per calendar month, UTC
}

// MaxRate bounds limits per minute, and Concurrent.
const MaxRate = 1_000_000_000_000

// None reports whether nothing is limited.
func (l Limits) None() bool {
	l.Burst = 0
	return l == Limits{}
}

// Check says what is wrong with values that a person gave.
func (l Limits) Check() error {
	for _, v := range []int64{l.Requests, l.Tokens, l.Concurrent} {
		if v < 0 || v > MaxRate {
			return fmt.Errorf("want a whole number from 0 (no limit) to %d", int64(MaxRate))
		}
	}
	if l.BudgetDay < 0 || l.BudgetMonth < 0 || l.BudgetDay > maxMoney || l.BudgetMonth > maxMoney {
		return errMoney
	}
	if l.Burst != 0 && (l.Burst < 100*time.Millisecond || l.Burst > time.Minute) {
		return errors.New("burst: want a duration from 100ms to 1m, or 0s for the whole minute")
	}
	return nil
}

// burst is Burst with its default.
func (l Limits) burst() time.Duration {
	if l.Burst == 0 {
		return time.Minute
	}
	return l.Burst
}

// bucket returns how many units of perMinute may be used at once.
func bucket(perMinute int64, burst time.Duration) int64 {
	return max(1, int64(math.Floor(float64(perMinute)*burst.Seconds()/60)))
}

// emission is the time that one unit takes to come back, in microseconds.
func emission(perMinute int64) float64 { return 60e6 / float64(perMinute) }
