package blackbox

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Clients leave at random moments of their exchanges while the upstream's
// connections go from one exchange to the next: no other client may lose a
// byte. RELAY_TEST_LONG=1m makes it as long as that.
func TestCancelsRacingWithReleasesNeverCutAnotherExchange(t *testing.T) {
	exchanges, limit := int64(20000), 20*time.Second
	if raceEnabled {
		exchanges = 5000
	}
	if long := os.Getenv("RELAY_TEST_LONG"); long != "" {
		d, err := time.ParseDuration(long)
		if err != nil {
			t.Fatalf("RELAY_TEST_LONG: %v", err)
		}
		exchanges, limit = 1<<40, d
	}
	up := newUpstream(t, func(rq *received) {
		_, rest, _ := strings.Cut(rq.body, `"model":"`)
		id, _, _ := strings.Cut(rest, `"`)
		pieces := raceAnswer(id)
		if !strings.Contains(rq.body, `"stream":true`) {
			rq.reply(200, strings.Join(pieces, ""))
			return
		}
		rq.send(streamHead)
		for _, p := range pieces {
			rq.send(chunk(p))
		}
		rq.send(lastChunk)
	})
	rl := relayTo(t, up, "log: {access: false}\n", option{silent: true})
	var begun, completed, cancelled, wrong atomic.Int64
	until := time.Now().Add(limit)
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(worker), 11))
			w := &racer{addr: rl.addr, r: r}
			defer w.close()
			for time.Now().Before(until) {
				n := begun.Add(1)
				if n > exchanges {
					return
				}
				done, err := w.exchange(strconv.FormatInt(n, 10))
				switch {
				case err != nil:
					if wrong.Add(1) <= 5 {
						t.Errorf("exchange %d: %v", n, err)
					}
				case done:
					completed.Add(1)
				default:
					cancelled.Add(1)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d completed, %d cancelled, %d upstream connections", completed.Load(), cancelled.Load(), up.connections.Load())
	if n := wrong.Load(); n > 0 {
		t.Errorf("%d exchanges were cut or wrong", n)
	}
	if completed.Load() == 0 || cancelled.Load() == 0 {
		t.Error("nothing raced")
	}
}

// raceAnswer are the events of the exchange id, which nobody else's equal.
func raceAnswer(id string) []string {
	return []string{content(id + "-1"), content(id + "-2"), content(id + "-3"), doneEvent}
}

// racer is a client that keeps its connection and leaves it at random.
type racer struct {
	addr string
	r    *rand.Rand
	conn net.Conn
	br   *bufio.Reader
}

func (w *racer) close() {
	if w.conn != nil {
		_ = w.conn.Close()
		w.conn = nil
	}
}

// exchange makes one request; done says that it read the whole answer, which
// was right. An error is what must not happen.
func (w *racer) exchange(id string) (done bool, err error) {
	fresh := w.conn == nil
	if fresh {
		if w.conn, err = net.Dial("tcp", w.addr); err != nil {
			return false, err
		}
		w.br = bufio.NewReader(w.conn)
	}
	_ = w.conn.SetDeadline(time.Now().Add(patience))
	stream := w.r.IntN(4) > 0
	body := fmt.Sprintf(`{"model":"%s","stream":%t}`, id, stream)
	if _, err := io.WriteString(w.conn, post("/v1/chat/completions", body)); err != nil {
		return false, fmt.Errorf("write on a connection that is fresh: %t: %w", fresh, err)
	}
	if w.r.IntN(3) == 0 { // leave somewhere between here and the end
		defer w.leave()
		if n := w.r.IntN(500); n > 100 { // no more than any answer has
			_, _ = io.CopyN(io.Discard, w.br, int64(n))
		} else {
			for range n {
				_ = w.r.Uint64() // some time, down to none
			}
		}
		return false, nil
	}
	a, err := (&client{Conn: w.conn, r: w.br}).tryBegin("POST")
	if err != nil {
		return false, fmt.Errorf("head: %w", err)
	}
	got, err := a.rest()
	if want := strings.Join(raceAnswer(id), ""); got != want || err != nil || a.status != 200 {
		w.close()
		return false, errors.Join(fmt.Errorf("status %d: %s", a.status, firstDifference([]byte(got), []byte(want))), err)
	}
	return true, nil
}

func (w *racer) leave() {
	if w.r.IntN(2) == 0 {
		_ = w.conn.(*net.TCPConn).SetLinger(0)
	}
	w.close()
}
