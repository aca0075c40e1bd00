package limits

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"streamrelay/configs"
)

// Field is one limit in its text form, as files, flags and the API name it.
type Field struct {
	Name string // such as requests_per_minute
	Help string
	Get  func(*Limits) string        // "" where it is not given
	Set  func(*Limits, string) error // "" and 0 take the limit away
}

var errCount = fmt.Errorf("want a whole number from 0 (no limit) to %d", int64(MaxRate))

func count(name, help string, at func(*Limits) *int64) Field {
	return Field{name, help,
		func(l *Limits) string {
			if *at(l) == 0 {
				return ""
			}
			return strconv.FormatInt(*at(l), 10)
		},
		func(l *Limits, s string) error {
			if s == "" {
				s = "0"
			}
			v, err := strconv.ParseInt(s, 10, 64)
			if err != nil || v < 0 || v > MaxRate {
				return errCount
			}
			*at(l) = v
			return nil
		}}
}

func budget(name, help string, at func(*Limits) *Money) Field {
	return Field{name, help,
		func(l *Limits) string {
			if *at(l) == 0 {
				return ""
			}
			return at(l).String()
		},
		func(l *Limits, s string) (err error) {
			if s == "" {
				s = "0"
			}
			*at(l), err = ParseMoney(s)
			return err
		}}
}

// Fields returns the limits in the order in which they are shown.
func Fields() []Field {
	return []Field{
		count("requests_per_minute", "requests per minute", func(l *Limits) *int64 { return &l.Requests }),
		count("tokens_per_minute", "tokens per minute, of prompts and answers", func(l *Limits) *int64 { return &l.Tokens }),
		count("concurrent", "requests at the same time", func(l *Limits) *int64 { return &l.Concurrent }),
		budget("budget_day", "US dollars per day (UTC), by the prices of the configuration", func(l *Limits) *Money { return &l.BudgetDay }),
		budget("budget_month", "US dollars per calendar month (UTC), by the prices of the configuration", func(l *Limits) *Money { return &l.BudgetMonth }),
		{"burst", "how much of a minute's requests and tokens may be used at once, 100ms to 1m (default 1m)",
			func(l *Limits) string {
				if l.Burst == 0 {
					return ""
				}
				return configs.FormatDuration(l.Burst)
			},
			func(l *Limits, s string) error {
				if s == "" {
					s = "0"
				}
				d, err := configs.ParseDuration(s)
				if err != nil {
					return err
				}
				next := Limits{Burst: d}
				if err := next.Check(); err != nil {
					return err
				}
				l.Burst = d
				return nil
			}},
	}
}

// MarshalJSON gives an object of the fields that are given.
func (l Limits) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for _, f := range Fields() {
		text := f.Get(&l)
		if text == "" {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(strconv.AppendQuote(b, f.Name), ':')
		if f.Name == "burst" {
			text = strconv.Quote(text)
		}
		b = append(b, text...)
	}
	return append(b, '}'), nil
}

// UnmarshalJSON reads such an object; a field that is left out is no limit.
// Errors name the field and never what stood there.
func (l *Limits) UnmarshalJSON(b []byte) error {
	var values map[string]json.RawMessage
	if err := json.Unmarshal(b, &values); err != nil {
		return errors.New("limits: want an object")
	}
	var next Limits
	for _, f := range Fields() {
		v, given := values[f.Name]
		delete(values, f.Name)
		if !given || string(v) == "null" {
			continue
		}
		if f.Name == "burst" { // the only text
			v = bytes.Trim(v, `"`)
		}
		if err := f.Set(&next, string(v)); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	for range values {
		return errors.New("limits: unknown field (known: requests_per_minute, tokens_per_minute, concurrent, budget_day, budget_month, burst)")
	}
	*l = next
	return nil
}
