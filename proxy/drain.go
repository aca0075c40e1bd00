package proxy

import (
	"context"
	"fmt"
	"time"
)

// LameDuck makes the server take its leave: /readyz says 503, nothing new is
// accepted, and each answer tells its client to connect anew. A connection
// that carries nothing is closed once it has been idle for patience, counted
// from now or from its last answer: who comes back within it is served, and
// told. So a stream that outlasts patience does not leave its client with a
// connection that ends without a word. It returns when no connection is open
// any more, or ctx is done.
func (s *Server) LameDuck(ctx context.Context, patience time.Duration) {
	if s.lame.Swap(true) {
		return
	}
	close(s.leaving)
	begun := s.now()
	tick := time.NewTicker(leaveTick)
	defer tick.Stop()
	for s.tel.OpenConnections.Load() > 0 {
		for _, c := range s.watcher.all() {
			c.closeIdle(begun, int64(patience))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// leaveTick is how often connections are looked at for having been idle.
const leaveTick = 20 * time.Millisecond

// Shutdown stops accepting, closes idle connections, lets exchanges under way
// end until ctx is done, and then breaks the rest. Nothing of the server is
// left when it returns but what a broken connection's goroutine takes to
// notice.
func (s *Server) Shutdown(ctx context.Context) error {
	if s.draining.Swap(true) {
		return nil
	}
	if !s.lame.Swap(true) {
		close(s.leaving)
	}
	close(s.stopping)
	err := s.http.ShutdownWithContext(ctx)
	left := int64(0)
	if err == nil { // which knows nothing of hijacked connections
		left = s.settle(ctx, s.tel.InFlight.Load)
	}
	if ctx.Err() != nil {
		s.watcher.drain()
		s.stopConnecting() // after that, so that they know why
		last, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		left, err = s.settle(last, s.tel.InFlight.Load), nil
	}
	s.stopConnecting()
	s.settings.Load().routing.set.Close()
	s.watcher.close()
	if left > 0 {
		err = fmt.Errorf("%d exchanges did not end", left)
	}
	if err != nil {
		return fmt.Errorf("shut the server down: %w", err)
	}
	return nil
}

// settle waits until nothing is left, or ctx is done, and returns what is left;
// fasthttp's second Shutdown would not wait for exchanges that were told to end.
func (s *Server) settle(ctx context.Context, left func() int64) int64 {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for left() > 0 {
		select {
		case <-ctx.Done():
			return left()
		case <-tick.C:
		}
	}
	return 0
}
