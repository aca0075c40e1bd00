package watch

import (
	"fmt"
	"testing"
)

// facts is all that a Stream says at the end, but for times.
type facts struct {
	usage                                 Usage
	known, final, terminal, failed, first bool
	mid                                   bool
	events, content, sequence             int64
	gaps                                  uint32
}

func factsOf(s *Stream) facts {
	u, known := s.Usage()
	return facts{
		usage: u, known: known, final: s.UsageFinal(), terminal: s.Terminal(), failed: s.ErrorEvent(),
		first: s.FirstIsError(), mid: s.MidEvent(), events: s.Events(), content: s.ContentEvents(),
		sequence: s.Sequence(), gaps: s.Gaps.N,
	}
}

// run feeds in, cut before each index in cuts, and returns what came out. The
// time is the number of bytes fed.
func run(s *Stream, f Family, strip bool, in string, eof bool, cuts ...int) string {
	s.Reset(f, strip)
	var out []byte
	from := 0
	for _, c := range append(cuts, len(in)) {
		if c < from || c > len(in) {
			continue
		}
		held, o := s.Feed([]byte(in[from:c]), int64(c))
		out = append(append(out, held...), o...)
		from = c
	}
	out = append(out, s.End(int64(len(in)), eof)...)
	s.Release()
	return string(out)
}

// everyCut calls f with cuts of n bytes: none, after each byte, at each place,
// and at each two places (of long inputs, two places near each other).
func everyCut(n int, f func(cuts ...int)) {
	f()
	all := make([]int, 0, n)
	for i := range n {
		all = append(all, i)
	}
	f(all...)
	for i := 1; i < n; i++ {
		f(i)
		last := n
		if n > 300 {
			last = min(n, i+6)
		}
		if raceEnabled {
			continue // one goroutine, in which the detector finds nothing
		}
		for j := i + 1; j < last; j++ {
			f(i, j)
		}
	}
}

// checkCuts compares facts and output of every cut.
func checkCuts(t *testing.T, f Family, strip bool, in string, eof bool, want facts, wantOut string) {
	t.Helper()
	var s Stream
	everyCut(len(in), func(cuts ...int) {
		if t.Failed() {
			return
		}
		out := run(&s, f, strip, in, eof, cuts...)
		where := fmt.Sprintf("cut at %v", cuts)
		if len(cuts) > 2 {
			where = "byte by byte"
		}
		if got := factsOf(&s); got != want {
			t.Errorf("%s:\n got %+v\nwant %+v", where, got, want)
		}
		if out != wantOut {
			t.Errorf("%s: output\n got %q\nwant %q", where, out, wantOut)
		}
	})
}
