package proxy

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"streamrelay/telemetry"
)

// listener accepts client connections: it outlives a lack of descriptors or
// memory, where fasthttp would end the process, counts what is open, and sheds
// what is too much.
type listener struct {
	net.Listener
	srv *Server
	tls *tls.Config // nil: plain

	closing sync.Once // by who takes its leave, and by fasthttp
}

const (
	acceptBackoffMin = 5 * time.Millisecond
	acceptBackoffMax = time.Second
)

// Accept returns the next connection that the relay has room for, a
// *clientConn. The error is that of a closed listener.
func (l *listener) Accept() (net.Conn, error) {
	backoff := acceptBackoffMin
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			if !transientAccept(err) {
				if l.srv.lame.Load() { // connections that are open are served on
					<-l.srv.stopping
				}
				return nil, err
			}
			l.srv.tel.AcceptErrors.Inc()
			l.srv.log.WarnEvery("accept", time.Minute).Err(err).Msg("accept a connection: raise LimitNOFILE or lower limits.max_connections")
			select {
			case <-l.srv.stopping:
				return nil, net.ErrClosed
			case <-time.After(backoff):
			}
			backoff = min(2*backoff, acceptBackoffMax)
			continue
		}
		backoff = acceptBackoffMin
		if l.srv.open.Add(1) > l.srv.maxConns.Load() {
			l.srv.shed(nc, l.tls)
			continue
		}
		c, err := l.srv.newClientConn(nc, l.tls)
		if err != nil {
			_ = nc.Close()
			l.srv.open.Add(-1)
			l.srv.log.WarnEvery("watch", time.Minute).Err(err).Msg("take a connection")
			continue
		}
		return c, nil
	}
}

// closeWhenLeaving closes the listener as soon as the server takes its leave.
func (l *listener) closeWhenLeaving() {
	<-l.srv.leaving
	_ = l.Close()
}

// Close closes the listener once.
func (l *listener) Close() (err error) {
	l.closing.Do(func() { err = l.Listener.Close() })
	return err
}

// transientAccept reports whether an accept error passes by itself.
func transientAccept(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOBUFS) ||
		errors.Is(err, syscall.ENOMEM) || errors.Is(err, syscall.ECONNABORTED) || errors.Is(err, syscall.EINTR) ||
		errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EPROTO)
}

func (s *Server) newClientConn(nc net.Conn, tlsConfig *tls.Config) (*clientConn, error) {
	sock, ok := nc.(syscall.Conn)
	if !ok {
		return nil, errors.New("not a socket")
	}
	raw, err := sock.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &clientConn{Conn: nc, srv: s, remote: addrOf(nc.RemoteAddr())}
	if tlsConfig != nil {
		c.Conn = tls.Server(nc, tlsConfig)
		c.out = c.Conn
	} else {
		c.direct.Init(nc, raw)
		c.out = &c.direct
	}
	c.read.lazy.Init(raw, s.buffers)
	c.x.init(c)
	c.setIdle()
	if err := s.watcher.add(c, raw); err != nil {
		return nil, err
	}
	s.tel.OpenConnections.Inc()
	return c, nil
}

// connClosed counts a connection that newClientConn made.
func (s *Server) connClosed() {
	s.open.Add(-1)
	s.tel.OpenConnections.Dec()
}

func addrOf(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// shedTime is how long a connection that there is no room for has to send its
// request and to take the answer.
const shedTime = 3 * time.Second

// maxShedding is how many of them are answered at a time; more are just closed.
// It is within the descriptors that defaultMaxConns leaves.
func maxShedding(maxConns int64) int64 { return max(min(maxConns/8, 1024), 16) }

// shed answers 503 to a connection that there is no room for, without taking
// it into the server.
func (s *Server) shed(nc net.Conn, tlsConfig *tls.Config) {
	s.tel.Rejected(telemetry.RejectConnections)
	if s.shedding.Add(1) > maxShedding(s.maxConns.Load()) {
		s.shedding.Add(-1)
		_ = nc.Close()
		s.open.Add(-1)
		return
	}
	go func() {
		defer s.open.Add(-1)
		defer s.shedding.Add(-1)
		defer nc.Close()
		defer s.contained()
		if nc.SetDeadline(time.Now().Add(shedTime)) != nil {
			return
		}
		if tlsConfig != nil {
			nc = tls.Server(nc, tlsConfig)
		}
		var buf [4096]byte
		if _, err := nc.Read(buf[:]); err != nil { // the head, or enough of it
			return
		}
		if _, err := nc.Write(s.bareAnswer(errShed, "Retry-After: 1\r\n")); err != nil {
			return
		}
		if half, ok := nc.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
			for {
				if _, err := nc.Read(buf[:]); err != nil {
					return
				}
			}
		}
	}()
}
