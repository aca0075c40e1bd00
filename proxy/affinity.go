package proxy

import (
	"bytes"
	"sync"
	"sync/atomic"

	"streamrelay/pool"
	"streamrelay/proxy/watch"
)

// affinity remembers which account made what: an id of a stored response, a
// file or a batch means something to that account alone. Bounded; the oldest is
// forgotten first. The zero value is ready; safe for concurrent use. Only
// requests that create or name such things come here.
type affinity struct {
	any    atomic.Bool // something was learnt
	shards [affinityShards]affinityShard
}

const (
	affinityShards = 16
	affinityRoom   = 65536 / affinityShards // ids in a shard
)

type affinityShard struct {
	mu sync.Mutex // protects the rest
	recent[*pool.Account]
}

func (a *affinity) shard(id uint64) *affinityShard { return &a.shards[id%affinityShards] }

// learn notes that account c made the object of the hashed id.
func (a *affinity) learn(id uint64, c *pool.Account) {
	a.any.Store(true)
	s := a.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(id, c, affinityRoom)
}

// find returns who made the object, nil where that is not known.
func (a *affinity) find(id []byte) *pool.Account {
	if len(id) == 0 || !a.any.Load() {
		return nil
	}
	h := watch.HashID(id)
	s := a.shard(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.of[h]
}

// findIn looks for the files that a JSON body refers to, and returns who made
// the first one that is known.
func (a *affinity) findIn(body []byte) *pool.Account {
	if !a.any.Load() {
		return nil
	}
	for rest := body; ; {
		i := bytes.Index(rest, fileRef)
		if i < 0 {
			return nil
		}
		rest = rest[i+len(fileRef):]
		v := bytes.TrimLeft(rest, " \t\r\n")
		if len(v) == 0 || v[0] != ':' {
			continue
		}
		if v = bytes.TrimLeft(v[1:], " \t\r\n"); len(v) == 0 || v[0] != '"' {
			continue
		}
		id, _, ok := bytes.Cut(v[1:], []byte{'"'})
		if !ok {
			return nil
		}
		if c := a.find(id); c != nil {
			return c
		}
	}
}

// fileRef ends the keys file_id and input_file_id. Within a text of the body
// its quote would be escaped.
var fileRef = []byte(`file_id"`)

// remember notes who made the objects that the answer has named since the last
// call, before the client hears of them.
func (x *exchange) remember() {
	ids := x.ans.ids()
	for ; x.learnt < len(ids); x.learnt++ {
		x.srv.affinity.learn(ids[x.learnt], x.try.Account())
	}
}
