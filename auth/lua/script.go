// Package lua runs scripts in Redis. It owns how a script is named, sent and
// sent again; not what any of them does.
package lua

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"strings"

	"github.com/redis/rueidis"
)

// Script is a Lua script, which servers keep under its SHA-1.
type Script struct{ lua, sha string }

// evenFull marks a script that runs where Redis has no memory left. Redis 7 and
// Valkey know such marks, Redis 6 takes them for a mistake.
const evenFull = "#!lua flags=allow-oom\n"

// New returns the script of a source.
func New(lua string) Script {
	sum := sha1.Sum([]byte(lua)) // EVALSHA's name for it, no secret
	return Script{lua, hex.EncodeToString(sum[:])}
}

// Run evaluates the script over a client or one connection of it.
func (s *Script) Run(ctx context.Context, c rueidis.CommandClient, keys, args []string) rueidis.RedisResult {
	b := c.B()
	result := c.Do(ctx, b.Evalsha().Sha1(s.sha).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build())
	if e, is := rueidis.IsRedisErr(result.Error()); is && e.IsNoScript() {
		result = c.Do(ctx, b.Eval().Script(s.lua).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build())
	}
	return result
}

// RunEvenFull is Run, and also where Redis has no memory left: of scripts that
// take next to none, and must not wait until there is.
func (s *Script) RunEvenFull(ctx context.Context, c rueidis.CommandClient, keys, args []string) rueidis.RedisResult {
	result := s.Run(ctx, c, keys, args)
	if e, is := rueidis.IsRedisErr(result.Error()); !is || !strings.HasPrefix(e.Error(), "OOM ") {
		return result
	}
	marked := New(evenFull + s.lua)
	again := marked.Run(ctx, c, keys, args)
	if e, is := rueidis.IsRedisErr(again.Error()); is && strings.Contains(e.Error(), "compiling script") {
		return result
	}
	return again
}
