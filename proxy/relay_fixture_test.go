package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"streamrelay/auth"
	"streamrelay/configs"
	"streamrelay/telemetry"
)

// streamEvents is how many events a stream of the measurements has, behind which
// come the usage event, which the relay takes out, and [DONE].
const streamEvents = 64

// What the measurements send and are answered. Neither side of them allocates.
var (
	jsonRequest   = measuredRequest(`{"model":"m","messages":[{"role":"user","content":"Say hello to the world."}]}`)
	streamRequest = measuredRequest(`{"model":"m","stream":true,"messages":[{"role":"user","content":"Say hello to the world."}]}`)

	jsonAnswer = []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(document)) + "\r\n\r\n" + document)
	streamHead = []byte("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
	oneEvent   = chunk("data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" hello world\"},\"finish_reason\":null}]}\n\n")
	streamTail = append(chunk(chatUsage+chatDone), "0\r\n\r\n"...)
)

func measuredRequest(body string) []byte {
	return fmt.Appendf(nil, "POST /v1/chat/completions HTTP/1.1\r\nHost: relay\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nUser-Agent: measure/1\r\nContent-Length: %d\r\n\r\n%s", clientKey, len(body), body)
}

func chunk(s string) []byte { return fmt.Appendf(nil, "%x\r\n%s\r\n", len(s), s) }

// pace is how a measured upstream sends a stream.
type pace int

const (
	lockstep    pace = iota // head and first event in one, each later event after the client has the one before
	headFirst               // the same, but the head goes alone
	burst                   // all in one write
	oneDocument             // not a stream: one JSON document
)

// provider is an upstream on raw sockets that answers every request alike.
type provider struct {
	addr  string
	pace  pace
	next  chan struct{} // the client has an event
	stop  chan struct{} // closed with the test
	reads atomic.Int64  // that brought bytes
}

// newProvider starts one, which ends with the test.
func newProvider(t testing.TB, p pace) *provider {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &provider{addr: ln.Addr().String(), pace: p, next: make(chan struct{}, 1), stop: make(chan struct{})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			v.serve(nc) // one connection at a time: the measurements use one
			nc.Close()
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		close(v.stop)
		<-done
	})
	return v
}

// serve answers the requests of one connection until it ends.
func (v *provider) serve(nc net.Conn) {
	all := append([]byte(nil), streamHead...)
	for range streamEvents {
		all = append(all, oneEvent...)
	}
	all = append(all, streamTail...)
	first := append(append([]byte(nil), streamHead...), oneEvent...)
	send := func(p []byte) bool {
		_, err := nc.Write(p)
		return err == nil
	}
	buf := make([]byte, 8<<10)
	for {
		for n := 0; !wholeRequest(buf[:n]); {
			m, err := nc.Read(buf[n:])
			if err != nil {
				return
			}
			v.reads.Add(1)
			n += m
		}
		ok := true
		switch v.pace {
		case oneDocument:
			ok = send(jsonAnswer)
		case burst:
			ok = send(all)
		default:
			if v.pace == headFirst {
				ok = send(streamHead)
				ok = ok && v.told() && send(oneEvent)
			} else {
				ok = send(first)
			}
			for i := 1; i < streamEvents && ok; i++ {
				ok = v.told() && send(oneEvent)
			}
			ok = ok && v.told() && send(streamTail)
		}
		if !ok {
			return
		}
	}
}

// told waits until the client has what was sent.
func (v *provider) told() bool {
	select {
	case <-v.next:
		return true
	case <-v.stop:
		return false
	}
}

// wholeRequest reports whether b holds a head and the body that it announces.
func wholeRequest(b []byte) bool {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		return false
	}
	at := bytes.Index(b[:end], []byte("Content-Length: "))
	if at < 0 {
		return true
	}
	n := 0
	for _, c := range b[at+len("Content-Length: ") : end] {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + int(c-'0')
	}
	return len(b) >= end+4+n
}

// user is a client on a raw socket.
type user struct {
	nc  net.Conn
	buf []byte
}

func newUser(t testing.TB, addr string) *user {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &user{nc: nc, buf: make([]byte, 32<<10)}
}

// ask sends request and reads the answer to its end. For each event of a stream,
// and for the head where it comes alone, it tells v.
func (u *user) ask(t testing.TB, request []byte, v *provider) {
	t.Helper()
	if _, err := u.nc.Write(request); err != nil {
		t.Fatal(err)
	}
	events, told := 0, 0
	var tail [5]byte // the last bytes of the body
	for n := 0; ; {
		m, err := u.nc.Read(u.buf[n:])
		if err != nil {
			t.Fatalf("after %d events: %v\n%s", events, err, u.buf[:n])
		}
		if v.pace == oneDocument {
			if n += m; wholeRequest(u.buf[:n]) {
				return
			}
			continue
		}
		p := u.buf[:m]
		events += bytes.Count(p, []byte("\n\n"))
		if m >= len(tail) {
			copy(tail[:], p[m-len(tail):])
		} else {
			copy(tail[:], tail[m:])
			copy(tail[len(tail)-m:], p)
		}
		if string(tail[:]) == "0\r\n\r\n" {
			if events != streamEvents+1 { // the last is [DONE]; the usage event is gone
				t.Fatalf("%d events", events)
			}
			return
		}
		due := min(events, streamEvents) // nobody waits for the end
		if v.pace == headFirst {
			due++
		}
		for ; v.pace != burst && told < due; told++ {
			v.next <- struct{}{}
		}
	}
}

// counting is a listener whose connections count the writes made on them.
type counting struct {
	net.Listener
	writes atomic.Int64
}

type countingConn struct {
	*net.TCPConn
	by *counting
}

func (l *counting) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &countingConn{nc.(*net.TCPConn), l}, nil
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.by.writes.Add(1)
	return c.TCPConn.Write(p)
}

// SyscallConn counts each attempt to write to the socket, too.
func (c *countingConn) SyscallConn() (syscall.RawConn, error) {
	raw, err := c.TCPConn.SyscallConn()
	r := &countingRaw{RawConn: raw, by: c.by}
	r.counted = r.attempt
	return r, err
}

type countingRaw struct {
	syscall.RawConn
	by                *counting
	attempts, counted func(fd uintptr) bool
}

func (r *countingRaw) Write(f func(fd uintptr) bool) error {
	r.attempts = f
	return r.RawConn.Write(r.counted)
}

func (r *countingRaw) attempt(fd uintptr) bool {
	r.by.writes.Add(1)
	return r.attempts(fd)
}

// relayTo serves, on a loopback port, a server in front of v until the test ends.
func relayTo(t testing.TB, v *provider, carrier string) *counting {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &counting{Listener: ln}
	served := make(chan error, 1)
	t.Cleanup(func() { // runs behind the server's own, which makes Serve return
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	s := newServer(t, relaying(v.addr, carrier))
	go func() { served <- s.Serve(l) }()
	return l
}

// relaying is a configuration for measurements: all that an operator has
// switched on is on.
func relaying(upstream, carrier string) string {
	return oneUpstream("http://"+upstream+"/v1") + "stream: {include_usage: auto, carrier: " + carrier + "}\nlog: {access: true}\n"
}

// serveForStrace is the relay as a process of its own, which a test traces. It
// says where it listens and serves until its standard input ends.
func serveForStrace(upstream, carrier string) error {
	cfg, err := configs.Parse("test", []byte(relaying(upstream, carrier)), func(string) (string, bool) { return "", false })
	if err != nil {
		return err
	}
	log := telemetry.NewLog(io.Discard, "info")
	defer log.Close()
	s, err := New(Options{
		Config:    cfg,
		Keys:      auth.NewStatic(&auth.Record{ID: "k1", Name: "k1", Digest: auth.DigestOf(nil, []byte(clientKey)), Tenants: []string{"acme"}}),
		Telemetry: telemetry.New(telemetry.Options{Endpoints: EndpointNames(), Upstreams: []string{"one"}, Access: true, Log: log}),
		Log:       log,
	})
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	fmt.Println("listening on", ln.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		return err
	}
	return <-served
}

// carriers are the values of stream.carrier.
var carriers = strings.Fields("reader writer")
