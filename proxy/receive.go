package proxy

import (
	"errors"
	"io"
	"net"
	"os"
)

// arrival is what a wait for the upstream brought.
type arrival uint8

const (
	arrivedBytes arrival = iota
	arrivedTime          // the deadline
	arrivedEnd           // the upstream closed its side
	arrivedCut           // the connection broke
	clientLeft
	relayDrains
	keyEnded
)

// receive waits until the deadline (unix ns; 0: for ever) for the upstream's
// next bytes, which then are the n bytes of x.in from at on.
func (x *exchange) receive(at int, deadline int64) (n int, what arrival) {
	for expired := false; ; expired = true {
		if err := x.conn.ReadBy(deadline, expired); err != nil {
			return 0, arrivedCut
		}
		if what := x.interrupted(); what != arrivedBytes {
			return 0, what
		}
		n, err := x.conn.ReadBuffer(&x.in, at, readEnd)
		if err == nil {
			return n, arrivedBytes
		}
		if what := x.interrupted(); what != arrivedBytes {
			return 0, what
		}
		switch {
		case errors.Is(err, io.EOF):
			return 0, arrivedEnd
		case !isTimeout(err):
			return 0, arrivedCut
		case deadline > 0 && x.srv.now() >= deadline:
			return 0, arrivedTime
		}
	}
}

// interrupted reports why the exchange must not wait; arrivedBytes: it may.
func (x *exchange) interrupted() arrival {
	switch {
	case x.c.gone.Load():
		return clientLeft
	case x.c.drained.Load():
		return relayDrains
	case x.c.revoked.Load():
		return keyEnded
	}
	return arrivedBytes
}

func isTimeout(err error) bool {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return true
	}
	var ne net.Error
	return !errors.Is(err, io.EOF) && errors.As(err, &ne) && ne.Timeout()
}

// endedBy is the error of an arrival that ends the exchange from outside; nil:
// it does not, or the client has left.
func endedBy(what arrival) *apiError {
	switch what {
	case relayDrains:
		return errDraining
	case keyEnded:
		return errKeyEnded
	}
	return nil
}
