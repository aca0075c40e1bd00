package limits

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// Usage is what was used of an account's limits; -1: not known.
type Usage struct {
	Requests   int64 `json:"requests"`   // of the bucket
	Tokens     int64 `json:"tokens"`     // of the bucket
	Concurrent int64 `json:"concurrent"` // slots that relays hold
	Day        Money `json:"day"`
	Month      Money `json:"month"`
}

// UnknownUsage says nothing.
var UnknownUsage = Usage{-1, -1, -1, -1, -1}

// Spent is what one account spent, as a state file keeps it.
type Spent struct {
	Scope      string `json:"scope"`
	Day        int64  `json:"day"` // 20261124
	DaySpent   Money  `json:"day_spent"`
	Month      int64  `json:"month"` // 202611
	MonthSpent Money  `json:"month_spent"`
}

// Usage is what s says of the periods of a time.
func (s Spent) Usage(at time.Time) Usage {
	u := UnknownUsage
	u.Day, u.Month = 0, 0
	if day, _ := periodOf(at.UnixNano(), false); day == s.Day {
		u.Day = s.DaySpent
	}
	if month, _ := periodOf(at.UnixNano(), true); month == s.Month {
		u.Month = s.MonthSpent
	}
	return u
}

// Spent returns what accounts spent of periods that are not over.
func (l *Limiter) Spent() []Spent {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []Spent
	for scope, a := range l.accounts {
		s := Spent{Scope: scope}
		s.Day, s.DaySpent, _, _ = a.day.state(now)
		s.Month, s.MonthSpent, _, _ = a.month.state(now)
		if s.DaySpent > 0 || s.MonthSpent > 0 {
			list = append(list, s)
		}
	}
	for _, s := range l.restored {
		list = append(list, s)
	}
	return list
}

// Restore takes what Spent returned before a restart. It is called before the
// first Account. With Redis, which knows better, it is used until Redis answers.
func (l *Limiter) Restore(list []Spent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.restored = make(map[string]Spent, len(list))
	now := l.now()
	day, _ := periodOf(now, false)
	month, _ := periodOf(now, true)
	for _, s := range list {
		if s.Day == day || s.Month == month {
			l.restored[s.Scope] = s
		}
	}
}

func (a *Account) restore(s Spent) {
	now := a.l.now()
	for _, x := range []struct {
		p      *purse
		period int64
		spent  Money
	}{{&a.day, s.Day, s.DaySpent}, {&a.month, s.Month, s.MonthSpent}} {
		x.p.mu.Lock()
		x.p.rollLocked(now)
		if x.p.period == x.period {
			x.p.others = x.spent
		}
		x.p.mu.Unlock()
	}
}

// ReadUsage reads what all relays used of accounts, without changing it.
func ReadUsage(ctx context.Context, c rueidis.Client, prefix string, scopes []string, of []Limits, at time.Time) ([]Usage, error) {
	b := c.B
	day, _ := periodOf(at.UnixNano(), false)
	month, _ := periodOf(at.UnixNano(), true)
	const each = 5
	var commands rueidis.Commands
	for _, scope := range scopes {
		key := scopeKey(prefix, scope)
		commands = append(commands,
			b().Get().Key(key+"requests").Build(), b().Get().Key(key+"tokens").Build(), b().Hvals().Key(key+"slots").Build(),
			b().Hvals().Key(spendKey(prefix, scope, day)).Build(), b().Hvals().Key(spendKey(prefix, scope, month)).Build())
	}
	list := make([]Usage, len(scopes))
	if len(scopes) == 0 {
		return list, nil
	}
	answers := c.DoMulti(ctx, commands...)
	for i := range scopes {
		u, l := &list[i], of[i]
		for j, answer := range answers[i*each : i*each+each] {
			if err := answer.Error(); err != nil && !rueidis.IsRedisNil(err) {
				return nil, fmt.Errorf("read usage from redis: %w", err)
			}
			switch j {
			case 0:
				u.Requests = levelOf(answer, l.Requests, l, at)
			case 1:
				u.Tokens = levelOf(answer, l.Tokens, l, at)
			default:
				values, _ := answer.AsStrSlice()
				sum := sumOf(values, at)
				switch j {
				case 2:
					u.Concurrent = sum
				case 3:
					u.Day = Money(sum)
				case 4:
					u.Month = Money(sum)
				}
			}
		}
	}
	return list, nil
}

// levelOf is how much of a bucket is taken.
func levelOf(answer rueidis.RedisResult, perMinute int64, l Limits, at time.Time) int64 {
	if perMinute == 0 {
		return -1
	}
	text, err := answer.ToString()
	if err != nil {
		return 0
	}
	full, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return -1
	}
	now := float64(at.UnixNano()-epochSeconds*1e9) / 1000
	return max(0, min(int64(math.Ceil((full-now)/emission(perMinute))), bucket(perMinute, l.burst())))
}

// sumOf adds totals, and the slots of relays that were heard of.
func sumOf(values []string, at time.Time) (sum int64) {
	for _, v := range values {
		n, when, slots := strings.Cut(v, ":")
		if slots {
			if ms, err := strconv.ParseInt(when, 10, 64); err != nil || at.UnixMilli()-ms > 10_000 {
				continue
			}
		}
		i, _ := strconv.ParseInt(n, 10, 64)
		sum += i
	}
	return sum
}
