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
	text, _, _ = strings.Cut(text, ":") // when it was written follows
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
