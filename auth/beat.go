package auth

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"streamrelay/auth/lua"
)

// beatScript is a sign of life both ways, on the connection that hears of
// changes: a server that became a replica refuses it, one that no longer has
// the slot redirects it, and what a lost message spoke of is in its answer.
// KEYS: meta, changed, relays, marker. ARGV: the relay ("": none, only a look),
// the last change it knows, how many changes to answer. It answers marker,
// adopted, pepper's mark, last change, relays, and subjects with their changes.
var beatScript = lua.New(`
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now - 10000)
if ARGV[1] ~= '' then redis.call('ZADD', KEYS[3], now, ARGV[1]) end
local meta = redis.call('HMGET', KEYS[1], 'adopted', 'pepper', 'seq')
local answer = {redis.call('GET', KEYS[4]) or '', meta[1] or '', meta[2] or '', meta[3] or '0', tostring(redis.call('ZCARD', KEYS[3]))}
local list = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[2], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[3])
for i = 1, #list do answer[#answer + 1] = list[i] end
return answer`)

const beatChanges = 500

// beat is the answer of a beatScript.
type beat struct {
	marker  string
	adopted bool
	pepper  string
	seq     int64
	relays  int64
	changed []string
	last    int64 // the change that changed ends with
	more    bool
}

// beat asks over the connection itself.
func (f *follower) beat() (*beat, error) {
	f.beats.Add(1)
	began := time.Now()
	defer func() { f.called(CallFollow, time.Since(began)) }()
	return askBeat(f.ctx, f.conn, &f.names, f.id, f.seq.Load())
}

// askBeat is one beat of relay, which knows the change seq.
func askBeat(ctx context.Context, c rueidis.CommandClient, names *redisNames, relay string, seq int64) (*beat, error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	answer, err := beatScript.RunEvenFull(ctx, c, []string{names.meta, names.changed, names.relays, names.marker},
		[]string{relay, strconv.FormatInt(seq, 10), strconv.Itoa(beatChanges)}).AsStrSlice()
	if err != nil {
		return nil, fmt.Errorf("ask redis for changes: %w", err)
	}
	if len(answer) < 5 || len(answer)%2 != 1 {
		return nil, errors.New("ask redis for changes: an answer of another form")
	}
	b := &beat{marker: answer[0], adopted: answer[1] != "", pepper: answer[2]}
	b.seq, _ = strconv.ParseInt(answer[3], 10, 64)
	b.relays, _ = strconv.ParseInt(answer[4], 10, 64)
	for i := 5; i < len(answer); i += 2 {
		b.changed = append(b.changed, answer[i])
		if score, err := strconv.ParseFloat(answer[i+1], 64); err == nil {
			b.last = int64(score)
		}
	}
	b.more = len(b.changed) == beatChanges
	return b, nil
}
