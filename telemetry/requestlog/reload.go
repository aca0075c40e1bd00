package requestlog

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"streamrelay/configs"
)

// leaveTime is how long a reload waits for INSERTs under way before it breaks
// them off. Their blocks are then sent again by the rules of an unknown outcome.
const leaveTime = 2 * time.Second

// SetUpstreams says what Request.Upstream means from now on, as after a reload:
// index[i] stands for upstreams[i]. What other numbers mean stays, and so does
// what was appended before. It is called before the first request that needs it.
func (r *Recorder) SetUpstreams(index []int, upstreams []Upstream) {
	r.changing.Lock()
	defer r.changing.Unlock()
	n := *r.rows.names.Load()
	n.upstreams = slices.Clone(n.upstreams)
	for i, at := range index {
		for at >= len(n.upstreams) {
			n.upstreams = append(n.upstreams, Upstream{})
		}
		n.upstreams[at] = upstreams[i]
	}
	r.rows.names.Store(&n)
}

// NeedRestart lists the settings of the request log that differ between two
// configurations and that Reconfigure cannot put in force.
func NeedRestart(a, b *configs.Config) (keys []string) {
	switch {
	case Enabled(a) && !Enabled(b) || !Enabled(a) && Enabled(b):
		// With it come the sink of telemetry, the folder, and what is published.
		if a.RequestLog.Dir != b.RequestLog.Dir {
			return []string{"request_log.dir"}
		}
		return []string{"clickhouse"}
	case a.RequestLog.Dir != b.RequestLog.Dir:
		return []string{"request_log.dir"}
	}
	return nil
}

// Reconfigure puts the prices, the models that routes name, request_log and
// clickhouse of c in force. No sealed row is lost or doubled by it: a block whose
// INSERT is broken off stays bound to its shard and is looked up where its
// token may be forgotten. Shards are the same where they have an address in
// common. The error names the key that only a restart applies, and then nothing
// has changed. It may wait leaveTime for a server that does not answer, and no
// request waits for it; what comes meanwhile and finds no room is counted.
func (r *Recorder) Reconfigure(c *configs.Config) error {
	r.changing.Lock()
	defer r.changing.Unlock()
	was := &configs.Config{RequestLog: r.o.Files, ClickHouse: r.o.ClickHouse}
	if keys := NeedRestart(was, c); len(keys) > 0 {
		return fmt.Errorf("only a restart applies a change of %s", keys[0])
	}
	if models := modelsOf(c); !maps.Equal(c.Prices, r.o.Prices) || !slices.Equal(models, r.o.Models) {
		n := *r.rows.names.Load()
		n.setModels(models, c.Prices)
		r.rows.names.Store(&n)
		r.o.Prices, r.o.Models = c.Prices, models
	}
	r.o.Files, r.o.ClickHouse = c.RequestLog, c.ClickHouse
	files, clickhouse := c.RequestLog, c.ClickHouse
	if b := r.bodies.Load(); b != nil {
		b.files.Store(&files)
	}
	for _, p := range r.pipes() {
		p.ask(func() { p.seal.reconfigure(files, clickhouse) })
	}
	r.wantBodies(&files, &clickhouse)
	r.publishNew()
	return nil
}

// reconfigure puts other settings in force, between two blocks.
func (s *sealer) reconfigure(files configs.RequestLog, clickhouse configs.ClickHouse) {
	p := s.p
	changed := !reflect.DeepEqual(s.files, files)
	s.files = files
	if !reflect.DeepEqual(s.clickhouse, clickhouse) {
		sent := s.clickhouse.Enabled()
		s.clickhouse = clickhouse
		changed = changed || sent != clickhouse.Enabled()
		s.changeSenders()
	}
	s.behind = s.behind || changed
	s.catchUp()
	s.tick.Reset(s.pulse())
	for _, to := range p.shards() {
		if !to.begun {
			to.begun = true
			p.done.Go(to.run)
		}
	}
}

// catchUp puts the settings in force that the folder does not have yet. Where
// that fails it is tried again each second: the folder would else go on as what
// it no longer is.
func (s *sealer) catchUp() {
	folder := s.p.folder.Load()
	if folder == nil || !s.behind {
		return
	}
	if err := folder.Configure(s.p.folderOptions(s.boot, &s.files, len(s.p.shards()) == 0)); err != nil {
		s.warn("configure", err, "request log: the folder's settings are not changed")
		return
	}
	s.behind = false
}

// changeSenders ends the senders and makes those of the new settings, which
// begin with the blocks that were at hand. Blocks of shards that are no more go
// to the spool, while that still is one.
func (s *sealer) changeSenders() {
	s.endSenders(leaveTime, false)
	var left []*block
	for _, to := range s.p.shards() {
		left = append(left, to.left()...)
	}
	for _, x := range s.p.setSenders(left) {
		s.handBack(x)
	}
}

// handBack leaves a block without a sender to the spool, else to any sender.
func (s *sealer) handBack(x *block) {
	if x.gone() {
		return
	}
	if x.stored == nil {
		if err := s.write(x, false); err != nil {
			if all := s.p.shards(); len(all) > 0 {
				all[0].first = append(all[0].first, x)
				return
			}
			s.warn("write", err, unwritable)
			s.drop(x)
			return
		}
	}
	s.wait(x)
}
