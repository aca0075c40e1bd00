package requestlog

import (
	"errors"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"streamrelay/telemetry/spool"
)

// asideAgain is how many times Options.Backoff a block waits that was to be put
// aside and could not be.
const asideAgain = 240

// quarantine moves a block that ClickHouse will never take out of the way. Where
// that cannot be written, as on a full disk, it goes back to the spool, for the
// files of others to be sent, and deleted, before it is tried again.
func (s *sender) quarantine(x *block, why error) {
	p := s.p
	path, err := s.toQuarantine(x)
	if err != nil && len(x.stored) > 0 {
		s.putOff(x, errors.Join(why, err))
		return
	}
	if err != nil {
		p.stats.dropped[dropSpool].Add(uint64(x.rows))
		p.log.Error().AnErr("why", why).Err(err).Int("rows", x.rows).Str("table", p.kind.table).Msg("request log: ClickHouse will never take a block, and it cannot be put aside: its rows are dropped")
	} else {
		p.stats.quarantined.Add(uint64(x.rows))
		p.log.Error().Err(why).Int("rows", x.rows).Str("table", p.kind.table).Str("file", path).
			Msg("request log: ClickHouse will never take a block; it was put aside: correct the table and run `relay logs replay FILE`")
	}
	for _, b := range x.stored {
		_ = p.folder.Load().Ack(b)
	}
	s.recycle(x)
}

// putOff gives a block back to the spool, from which it is not taken for a while.
func (s *sender) putOff(x *block, why error) {
	folder := s.p.folder.Load()
	if len(s.off) == 0 {
		s.off, s.offUntil = make(map[*spool.Block]bool), time.Now().Add(asideAgain*s.p.backoff)
		s.p.log.Error().Err(why).Int("rows", x.rows).Str("table", s.p.kind.table).
			Msg("request log: ClickHouse will never take a block, and it cannot be put aside now: it waits in the spool and is tried again")
	}
	for _, b := range x.stored {
		s.off[b] = true
		folder.Return(b, true)
	}
	s.recycle(x)
}

func (s *sender) toQuarantine(x *block) (string, error) {
	folder := s.p.folder.Load()
	if folder == nil {
		return "", errNoFolder
	}
	header := spool.Header{Rows: x.rows, Token: x.token, Target: x.target}
	rows := x.batch
	if len(x.stored) > 1 {
		rows = x.merged
	}
	var frame []byte
	if rows == nil {
		var err error
		if frame, err = folder.Read(x.stored[0], nil); err != nil {
			return "", err
		}
	} else {
		var native proto.Buffer
		if err := encode(&native, rows); err != nil {
			return "", err
		}
		frame = spool.Pack(nil, native.Buf, nil)
	}
	return folder.Quarantine(s.p.kind.prefix+"."+strings.ReplaceAll(x.token, "/", "-"), header, frame)
}
