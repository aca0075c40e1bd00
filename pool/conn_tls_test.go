package pool

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
)

// versions are what an upstream may speak; only from 1.3 on do tickets come
// after the handshake.
var versions = []struct {
	name string
	cfg  func() *tls.Config
}{
	{"TLS 1.3", func() *tls.Config { return &tls.Config{} }},
	{"TLS 1.3 without tickets", func() *tls.Config { return &tls.Config{SessionTicketsDisabled: true} }},
	{"TLS 1.2", func() *tls.Config { return &tls.Config{MaxVersion: tls.VersionTLS12} }},
}

// send writes each text as a record of its own.
func (o *overTLS) send(t testing.TB, texts ...string) {
	t.Helper()
	for _, s := range texts {
		if _, err := o.server.Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTLSRecordsThatCameTogetherAreReadTogether(t *testing.T) {
	for _, v := range versions {
		for _, n := range []int{1, 2, 10, 64} {
			t.Run(fmt.Sprintf("%s/%d records", v.name, n), func(t *testing.T) {
				o := connectTLS(t, &Buffers{}, v.cfg(), false)
				defer o.client.Discard()
				// Waits, so that nothing of the handshake is left.
				r := inBackground(o.client)
				o.wire.gather()
				var want strings.Builder
				for i := range n {
					event := fmt.Sprintf("data: event %d %s\n\n", i, strings.Repeat("x", 100))
					o.send(t, event)
					want.WriteString(event)
				}
				o.wire.release(t, -1)
				if got := wait(t, r); got.text != want.String() || got.err != nil {
					t.Errorf("%d bytes, %v; want %d in one", len(got.text), got.err, want.Len())
				}
			})
		}
	}
}

func TestTLSRecordsLargerThanTheRoomAreReadInParts(t *testing.T) {
	for _, v := range versions {
		t.Run(v.name, func(t *testing.T) {
			o := connectTLS(t, &Buffers{}, v.cfg(), false)
			defer o.client.Discard()
			const size = 300_000 // many of the largest records, none of which fits one read
			want := strings.Repeat("0123456789abcdef", size/16)
			sent := make(chan error, 1)
			go func() {
				_, err := o.server.Write([]byte(want))
				sent <- err
			}()
			var got strings.Builder
			for got.Len() < len(want) {
				r := readOnce(o.client)
				if r.err != nil || r.text == "" {
					t.Fatalf("after %d bytes: %q, %v", got.Len(), r.text, r.err)
				}
				got.WriteString(r.text)
			}
			if got.String() != want {
				t.Error("other bytes")
			}
			if err := <-sent; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTLSHoldsNoBufferWhileItWaits(t *testing.T) {
	for _, v := range versions {
		t.Run(v.name, func(t *testing.T) {
			buffers := newCounted()
			o := connectTLS(t, &buffers.Buffers, v.cfg(), false)
			defer o.client.Discard()
			for range 3 {
				r := inBackground(o.client)
				buffers.noneHeld(t)
				o.send(t, "event")
				if got := wait(t, r); got.text != "event" {
					t.Errorf("%+v", got)
				}
			}
			buffers.noneHeld(t)
		})
	}
}

func TestTLSPartOfARecordIsWaitedFor(t *testing.T) {
	for _, v := range versions {
		t.Run(v.name, func(t *testing.T) {
			for _, cut := range []int{1, 4, 5, 6, 60} {
				buffers := newCounted()
				o := connectTLS(t, &buffers.Buffers, v.cfg(), false)
				o.send(t, "first")
				if got := readOnce(o.client); got.text != "first" {
					t.Fatalf("%+v", got)
				}
				o.wire.gather()
				o.send(t, strings.Repeat("whole ", 20))
				r := inBackground(o.client)
				o.wire.release(t, cut)
				arrived(t, o.tcp)
				taken(t, o.client)
				buffers.noneHeld(t) // crypto/tls has the part
				o.wire.release(t, -1)
				if got := wait(t, r); got.text != strings.Repeat("whole ", 20) || got.err != nil {
					t.Errorf("cut at %d: %+v", cut, got)
				}
				o.client.Discard()
			}
		})
	}
}

func TestTLSPartOfARecordIsKeptOverADeadline(t *testing.T) {
	o := connectTLS(t, &Buffers{}, nil, false)
	defer o.client.Discard()
	o.send(t, "first")
	if got := readOnce(o.client); got.text != "first" {
		t.Fatalf("%+v", got)
	}
	o.wire.gather()
	o.send(t, "second")
	r := inBackground(o.client)
	o.wire.release(t, 7)
	arrived(t, o.tcp)
	taken(t, o.client)
	o.client.StopReading()
	if got := wait(t, r); !errors.Is(got.err, os.ErrDeadlineExceeded) || got.lent {
		t.Fatalf("%+v", got)
	}
	o.client.Unbounded()
	o.wire.release(t, -1)
	if got := readOnce(o.client); got.text != "second" || got.err != nil {
		t.Errorf("%+v", got)
	}
}

func TestTLSTicketIsNoAnswer(t *testing.T) {
	for _, together := range []bool{false, true} {
		t.Run(fmt.Sprintf("together with the answer %t", together), func(t *testing.T) {
			buffers := newCounted()
			o := connectTLS(t, &buffers.Buffers, nil, true)
			defer o.client.Discard()
			if len(o.wire.b) == 0 {
				t.Fatal("the server wrote no ticket")
			}
			r := inBackground(o.client)
			if !together {
				o.wire.release(t, -1)
				arrived(t, o.tcp)
				taken(t, o.client)
				buffers.noneHeld(t) // it went on waiting
				select {
				case got := <-r:
					t.Fatalf("returned for a ticket: %+v", got)
				default:
				}
			}
			o.send(t, "answer")
			o.wire.release(t, -1)
			if got := wait(t, r); got.text != "answer" || got.err != nil {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestTLSIdleConnectionWithATicketIsAlive(t *testing.T) {
	o := connectTLS(t, &Buffers{}, nil, true)
	o.wire.release(t, -1)
	arrived(t, o.tcp)
	if waiting(t, o.client) == 0 {
		t.Fatal("no ticket waits")
	}
	if !o.client.Alive() {
		t.Error("dead of a ticket")
	}
	o.client.Release()
	c := acquire(t, o.up)
	if c != o.client {
		t.Error("not used again")
	}
	o.wire.pass()
	o.send(t, "answer")
	if got := readOnce(c); got.text != "answer" {
		t.Errorf("%+v", got)
	}
	o.tcp.Close()
	eventually(t, "the connection is found dead", func() bool { return !c.Alive() })
	c.Discard()
}

func TestTLSSessionIsResumed(t *testing.T) {
	p := listen(t)
	cert, ca := certificate(t)
	u := upstreamOf(t, "https://"+p.addr, &Buffers{}, withCA(ca))
	server := &tls.Config{Certificates: []tls.Certificate{cert}}
	for i := range 2 {
		done := make(chan error, 1)
		go func() {
			s := tls.Server(<-p.came, server)
			_, err := s.Write([]byte("answer"))
			done <- err
			defer s.Close()
			_, _ = io.Copy(io.Discard, s)
		}()
		c := acquire(t, u)
		if got := readOnce(c); got.text != "answer" {
			t.Errorf("%+v", got)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if resumed := c.Conn.(*tls.Conn).ConnectionState().DidResume; resumed != (i == 1) {
			t.Errorf("connection %d: resumed %t", i+1, resumed)
		}
		c.Discard()
	}
}

func TestTLSEndIsCleanOnlyWhereTheUpstreamSaidSo(t *testing.T) {
	for _, v := range versions {
		for _, c := range []struct {
			name string
			end  func(t *testing.T, o *overTLS)
			want func(error) bool
			text string
		}{
			{"close_notify", func(t *testing.T, o *overTLS) { o.server.Close() }, func(err error) bool { return err == io.EOF }, ""},
			{"close_notify alone, half-closed", func(t *testing.T, o *overTLS) { _ = o.server.CloseWrite() }, func(err error) bool { return err == io.EOF }, ""},
			{"close_notify together with the last bytes", func(t *testing.T, o *overTLS) {
				o.wire.gather()
				o.send(t, "last")
				_ = o.server.CloseWrite()
				o.wire.release(t, -1)
			}, func(err error) bool { return err == io.EOF }, "last"},
			// RFC 9112 §9.8: complete only if a valid closure alert came.
			{"FIN alone", func(t *testing.T, o *overTLS) { _ = o.tcp.CloseWrite() }, func(err error) bool { return err != io.EOF }, ""},
			{"FIN within a record", func(t *testing.T, o *overTLS) {
				o.wire.gather()
				o.send(t, "never whole")
				o.wire.release(t, 9)
				_ = o.tcp.CloseWrite()
			}, func(err error) bool { return err != io.EOF }, ""},
			{"garbage", func(t *testing.T, o *overTLS) { _, _ = o.tcp.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) }, func(err error) bool { return err != io.EOF }, ""},
			{"a record that was tampered with", func(t *testing.T, o *overTLS) {
				o.wire.gather()
				o.send(t, "text")
				o.wire.b[len(o.wire.b)-1] ^= 1
				o.wire.release(t, -1)
			}, func(err error) bool { return err != io.EOF }, ""},
		} {
			t.Run(v.name+"/"+c.name, func(t *testing.T) {
				buffers := newCounted()
				o := connectTLS(t, &buffers.Buffers, v.cfg(), false)
				o.send(t, "first")
				if got := readOnce(o.client); got.text != "first" {
					t.Fatalf("%+v", got)
				}
				c.end(t, o)
				if c.text != "" {
					if got := readOnce(o.client); got.text != c.text || got.err != nil {
						t.Fatalf("%+v", got)
					}
				}
				for range 3 { // and it stays so
					got := readOnce(o.client)
					if got.err == nil || got.lent || !c.want(got.err) || isTimeout(got.err) {
						t.Fatalf("%+v", got)
					}
				}
				o.client.Discard()
				buffers.noneHeld(t)
			})
		}
	}
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

func TestTLSDiscardGivesTheBytesBackThatNobodyTook(t *testing.T) {
	buffers := newCounted()
	o := connectTLS(t, &buffers.Buffers, nil, false)
	o.wire.gather()
	o.send(t, strings.Repeat("a", 5000), strings.Repeat("b", 5000))
	o.wire.release(t, -1)
	arrived(t, o.tcp)
	var b *Buffer
	if n, err := o.client.ReadBuffer(&b, 0, 100); n != 100 || err != nil {
		t.Fatal(n, err)
	}
	b.Put()
	b = nil
	o.client.Discard()
	buffers.noneHeld(t)
}

// An upstream that does not read would have crypto/tls wait to say goodbye.
func TestTLSDiscardSaysNoGoodbye(t *testing.T) {
	o := connectTLS(t, &Buffers{}, nil, false)
	o.client.Discard()
	if rest, err := io.ReadAll(o.tcp); len(rest) != 0 || err != nil {
		t.Errorf("%d bytes, %v", len(rest), err)
	}
}

func TestTLSInterruptEndsAReadThatWaits(t *testing.T) {
	o := connectTLS(t, &Buffers{}, nil, false)
	defer o.client.Discard()
	r := inBackground(o.client)
	o.client.Interrupt()
	if got := wait(t, r); !errors.Is(got.err, os.ErrDeadlineExceeded) || got.lent {
		t.Errorf("%+v", got)
	}
}

// TestTLSReadingAllocatesNothingOfItsOwn: crypto/tls itself makes a 24-byte
// reader per look at its transport, one for the record and one to learn that
// there is no other.
func TestTLSReadingAllocatesNothingOfItsOwn(t *testing.T) {
	o := connectTLS(t, &Buffers{}, nil, false)
	defer o.client.Discard()
	event := []byte(strings.Repeat("x", 200))
	one := func() {
		if _, err := o.server.Write(event); err != nil {
			t.Fatal(err)
		}
		var b *Buffer
		if n, err := o.client.ReadBuffer(&b, 0, BufferSize); n != len(event) || err != nil {
			t.Fatal(n, err)
		}
		b.Put()
	}
	one()
	if n := testing.AllocsPerRun(200, one); n > 2 && !raceEnabled {
		t.Errorf("%v allocations per event, the server's included", n)
	}
}
