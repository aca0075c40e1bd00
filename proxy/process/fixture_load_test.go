package process

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// load sends requests to a relay by schedule, whatever becomes of those before:
// of twenty ten JSON, nine streams, and a stream whose client leaves midway.
type load struct {
	addr, key string
	client    *http.Client

	sent, left atomic.Int64
	wg         sync.WaitGroup
	mu         sync.Mutex
	failures   map[string]int
}

// loadEvents are the events of a stream. A client that leaves has read loadLeave
// of a stream that is long enough not to be whole by then on any machine.
const (
	loadEvents = 20
	loadLeave  = 3
)

func newLoad(addr, key string) *load {
	transport := &http.Transport{
		MaxIdleConnsPerHost: 1000, IdleConnTimeout: time.Second, // long before the relay's keepalive_timeout
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		},
	}
	return &load{addr: addr, key: key, client: &http.Client{Transport: transport}, failures: map[string]int{}}
}

// run sends rate requests a second until ctx ends, and waits for the last.
func (l *load) run(ctx context.Context, rate int) {
	began := time.Now()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-ticker.C:
			due := int64(time.Since(began).Seconds() * float64(rate))
			for l.sent.Load() < due {
				n := l.sent.Add(1)
				l.wg.Go(func() { l.one(n) })
			}
		}
	}
	l.wg.Wait()
	l.client.CloseIdleConnections()
}

func (l *load) one(n int64) {
	var err error
	switch n % 20 {
	case 0:
		err = l.leave()
	case 1, 3, 5, 7, 9, 11, 13, 15, 17:
		err = l.stream()
	default:
		err = l.json()
	}
	if err != nil {
		l.mu.Lock()
		l.failures[err.Error()]++
		l.mu.Unlock()
	}
}

// ask sends a request and returns its answer, which is a 200.
func (l *load) ask(ctx context.Context, body, simulate string) (*http.Response, error) {
	// Prompts differ in size, as those of people do.
	body = fmt.Sprintf(body, strings.Repeat("x", rand.IntN(2000)))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+l.addr+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+l.key)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Simulate", simulate)
	res, err := l.client.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 200))
		res.Body.Close()
		return nil, fmt.Errorf("status %d: %s", res.StatusCode, text)
	}
	return res, nil
}

const (
	jsonAsk   = `{"model":"m","max_tokens":100,"messages":[{"role":"user","content":"%s"}]}`
	streamAsk = `{"model":"m","stream":true,"max_tokens":100,"messages":[{"role":"user","content":"%s"}]}`
)

var (
	streamTimes = fmt.Sprintf("ttft=100ms,gap=50ms,events=%d", loadEvents)
	leaveTimes  = "ttft=100ms,gap=50ms,events=500"
)

func (l *load) json() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	res, err := l.ask(ctx, jsonAsk, "ttft=20ms,gap=0,events=20")
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Errorf("a JSON answer was cut: %w", err)
	}
	if !bytes.Contains(text, []byte(`"finish_reason":"stop"`)) {
		return fmt.Errorf("a JSON answer is not whole: %.100s", text)
	}
	return nil
}

func (l *load) stream() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	res, err := l.ask(ctx, streamAsk, streamTimes)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	data, err := eventsOf(res.Body).rest()
	if err != errEnd {
		return fmt.Errorf("a stream was cut: %w", err)
	}
	if len(data) < loadEvents || data[len(data)-1] != "[DONE]" {
		return fmt.Errorf("a stream of %d events, the last %.100s", len(data), data[max(0, len(data)-1):])
	}
	return nil
}

// leave reads a few events and goes.
func (l *load) leave() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	res, err := l.ask(ctx, streamAsk, leaveTimes)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	ev := eventsOf(res.Body)
	for range loadLeave {
		if _, err := ev.next(); err != nil {
			return fmt.Errorf("a stream was cut: %w", err)
		}
	}
	l.left.Add(1)
	return nil
}
