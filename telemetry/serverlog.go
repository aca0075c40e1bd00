package telemetry

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// ServerLog is fasthttp's Logger on top of a Log. It holds back floods, and
// what clients sent: fasthttp quotes the bytes it could not parse in its
// errors, and those are where keys stand.
type ServerLog struct {
	log   *Log
	every time.Duration
}

// ServerLog returns a logger for fasthttp.Server.Logger and the like.
func (l *Log) ServerLog() *ServerLog { return &ServerLog{log: l, every: 10 * time.Second} }

// maxServerText is the most of one argument that is logged, in bytes.
const maxServerText = 200

// Printf logs a warning, at most one per format in 10 seconds. Numbers,
// durations and addresses are printed; the text of anything else only up to
// the first quote, question mark (a query may hold a key) or control character.
//
// A connection that broke is no news: the exchange on it says so in its record.
func (s *ServerLog) Printf(format string, args ...any) {
	for _, a := range args {
		if err, ok := a.(error); ok && isBrokenConn(err) {
			return
		}
	}
	what, _, _ := strings.Cut(format, "%") // people read it, should it be held back
	e := s.log.WarnEvery("fasthttp: "+strings.TrimSpace(what), s.every)
	if e == nil {
		return
	}
	clean := make([]any, len(args))
	for i, a := range args {
		switch a := a.(type) {
		case int, int64, uint64, float64, bool, time.Duration:
			clean[i] = a
		case net.Addr:
			clean[i] = a.String()
		default:
			clean[i] = withoutQuoted(fmt.Sprint(a))
		}
	}
	e.Str("from", "fasthttp").Msg(fmt.Sprintf(format, clean...))
}

func isBrokenConn(err error) bool {
	for _, broken := range []error{net.ErrClosed, syscall.EPIPE, syscall.ECONNRESET, io.ErrUnexpectedEOF, os.ErrDeadlineExceeded} {
		if errors.Is(err, broken) {
			return true
		}
	}
	return false
}

// withoutQuoted returns s up to where a client's bytes may begin.
func withoutQuoted(s string) string {
	i := strings.IndexFunc(s, func(r rune) bool {
		return r == '"' || r == '`' || r == '?' || r < 0x20 || r == 0x7f
	})
	if i >= 0 {
		s = s[:i] + "…"
	}
	if len(s) > maxServerText {
		s = strings.ToValidUTF8(s[:maxServerText], "") + "…"
	}
	return s
}
