package requestlog

import "time"

// found is what a sender has looked up by its ids and found stored, and has not
// said yet. Under which token such rows were stored nobody can tell: a rest, and
// blocks that went together, have others than the blocks. So they are not sent
// again, which under the right token would also have mended a view that failed
// when they were stored.
type found struct {
	rows     int
	from, to int64     // of the blocks with them, Unix milliseconds
	said     time.Time // last
}

// add notes the rows of b that are not in rest, and reports whether there are any.
func (f *found) add(b *Block, rest batch) bool {
	n := b.Rows()
	if rest != nil {
		n -= rest.Rows()
	}
	_, from, to, err := b.ids()
	if n == 0 || err != nil {
		return false
	}
	if f.rows == 0 {
		f.from, f.to = from, to
	}
	f.rows, f.from, f.to = f.rows+n, min(f.from, from), max(f.to, to)
	return true
}

// sayFound says what was found, at most once a minute, or at the end.
func (s *sender) sayFound(end bool) {
	f := &s.found
	if f.rows == 0 || s.p.kind.rollup == "" || !end && time.Since(f.said) < time.Minute {
		return
	}
	s.p.log.Warn().Int("rows", f.rows).Time("from", time.UnixMilli(f.from).UTC()).Time("to", time.UnixMilli(f.to).UTC()).Str("table", s.p.kind.table).
		Msg("request log: rows of an unknown outcome were there already; where a view failed when they were stored, " + s.p.kind.rollup + " lacks them: compare it with the table")
	*f = found{said: time.Now()}
}
