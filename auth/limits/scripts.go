package limits

import (
	"strconv"

	"streamrelay/auth/lua"
)

// epochSeconds is where the clocks begin: near, so that a float has the digits
// for a hundredth of a microsecond.
const epochSeconds = 1_735_689_600 // 2025-01-01

// takeScript is GCRA (ITU-T I.371, "virtual scheduling") by the server's clock:
// the key holds when the bucket is full again, and when that was written: of a
// clock that went back since, both went back. ARGV: microseconds per unit,
// units in the bucket, the fewest and the most units wanted, and whether they
// are taken whatever is there (a debt, or with a negative number a return).
// It answers units granted, microseconds until the fewest are there, units left
// and microseconds until the bucket is full.
var takeScript = lua.New(`
local t = redis.call('TIME')
local now = (t[1] - 1735689600) * 1000000 + t[2]
local emit, bucket, least, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local full, at = string.match(redis.call('GET', KEYS[1]) or '', '^([%d.]+):?(%d*)$')
full, at = tonumber(full or '') or 0, tonumber(at or '') or 0
if at > now then full = full - (at - now) end
if full < now then full = now end
local room = bucket - (full - now) / emit
local n = most
if ARGV[5] ~= '1' then
  n = math.min(most, math.floor(room + 0.000001))
  if n < least then n = 0 end
end
if n ~= 0 then
  full = full + n * emit
  if full < now then full = now end
  redis.call('SET', KEYS[1], string.format('%.3f:%d', full, now), 'PX', string.format('%d', math.ceil((full - now) / 1000) + 1000))
  room = bucket - (full - now) / emit
end
local wait = 0
if n == 0 then wait = math.max(0, (least - room) * emit) end
return {n, math.ceil(wait), math.floor(room + 0.000001), math.ceil(full - now)}`)

// slotScript shares out the slots of a limit on concurrency. The key is a hash
// of relays: slots, and when it was said. What a relay said 10 s ago and not
// since belongs to nobody. ARGV: the relay, slots that it has and that it wants,
// the limit. It answers the slots that the relay has now, and all that are taken.
var slotScript = lua.New(`
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local me, has, want, limit = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local others = 0
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local n, at = string.match(all[i + 1], '^(%d+):(%d+)$')
  if not n or now - at > 10000 then redis.call('HDEL', KEYS[1], all[i])
  elseif all[i] ~= me then others = others + n end
end
local n = math.min(want, math.max(limit - others, has))
if n > 0 then
  redis.call('HSET', KEYS[1], me, string.format('%d:%d', n, now))
  redis.call('PEXPIRE', KEYS[1], 60000)
else
  redis.call('HDEL', KEYS[1], me)
end
return {n, others + n}`)

// spendScript writes down what a relay spent in a period, as a total of its
// own, so that saying it twice does no harm, and what it has set aside for
// requests under way. The keys are hashes by relay: of totals, and of what is set
// aside and when that was said. What a relay said 10 s ago and not since, nobody
// uses. ARGV: the relay, its total in billionths, seconds to keep it, what it has
// set aside. It answers what all others spent and have set aside.
var spendScript = lua.New(`
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local me, total, aside = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[4])
local others, mine, pending = 0, 0, 0
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if all[i] == me then mine = tonumber(all[i + 1]) else others = others + all[i + 1] end
end
if total > mine then
  redis.call('HSET', KEYS[1], me, string.format('%d', total))
  redis.call('EXPIRE', KEYS[1], ARGV[3])
end
all = redis.call('HGETALL', KEYS[2])
for i = 1, #all, 2 do
  local n, at = string.match(all[i + 1], '^(%d+):(%d+)$')
  if not n or math.abs(now - at) > 10000 then redis.call('HDEL', KEYS[2], all[i])
  elseif all[i] ~= me then pending = pending + n end
end
if aside > 0 then
  redis.call('HSET', KEYS[2], me, string.format('%d:%d', aside, now))
  redis.call('PEXPIRE', KEYS[2], 60000)
else
  redis.call('HDEL', KEYS[2], me)
end
return {others, pending}`)

func floatArg(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
func intArg(v int64) string     { return strconv.FormatInt(v, 10) }
