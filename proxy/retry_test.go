package proxy

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"streamrelay/configs"
	"streamrelay/proxy/h1"
)

// headWith parses an answer's head of the field lines given.
func headWith(t testing.TB, lines string) *h1.Answer {
	t.Helper()
	var a h1.Answer
	if n, err := a.Parse([]byte("HTTP/1.1 429 Too Many\r\n" + lines + "\r\n")); err != nil || n == 0 {
		t.Fatalf("%q: %v", lines, err)
	}
	return &a
}

func TestRetryAfterInEveryForm(t *testing.T) {
	for lines, want := range map[string]time.Duration{
		"":                           0,
		"Retry-After: 7\r\n":         7 * time.Second,
		"retry-after: 1.5\r\n":       1500 * time.Millisecond,
		"Retry-After: 0\r\n":         0,
		"Retry-After: -3\r\n":        0,
		"Retry-After: soon\r\n":      0,
		"Retry-After: 5 seconds\r\n": 0,
		"Retry-After: 99999999999999999999999999\r\n":    maxRetryAfter,
		"Retry-After: NaN\r\n":                           0,
		"Retry-After: Mon, 01 Jan 2001 00:00:00 GMT\r\n": 0,
		"Retry-After: Fri, 01 Jan 2100 00:00:00 GMT\r\n": maxRetryAfter,
		"Retry-After: Fri Jan  1 00:00:00 2100\r\n":      maxRetryAfter, // asctime, which must be understood (RFC 9110 §5.6.7)
		"Retry-After-Ms: 250\r\nRetry-After: 1\r\n":      time.Second,
		"Retry-After: 1\r\nretry-after-ms: 0.5\r\n":      time.Second,
		"Retry-After: 1\r\nretry-after-ms: x\r\n":        time.Second,
	} {
		if got := retryAfter(headWith(t, lines)); got != want {
			t.Errorf("%q: %v, want %v", lines, got, want)
		}
	}
	soon := time.Now().Add(90 * time.Second).UTC().Format(http.TimeFormat)
	if got := retryAfter(headWith(t, "Retry-After: "+soon+"\r\n")); got < 60*time.Second || got > 90*time.Second {
		t.Errorf("%s: %v", soon, got)
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, v := range []string{"1", "1.5", "1e300", "-1", "0x10", "Inf", "Mon, 02 Jan 2006 15:04:05 GMT", "Monday", " 3 "} {
		f.Add(v, v)
	}
	f.Fuzz(func(t *testing.T, seconds, ms string) {
		var a h1.Answer
		if n, err := a.Parse([]byte("HTTP/1.1 503 x\r\nRetry-After: " + seconds + "\r\nRetry-After-Ms: " + ms + "\r\n\r\n")); err != nil || n == 0 {
			return
		}
		if d := retryAfter(&a); d < 0 || d > maxRetryAfter {
			t.Errorf("%v", d)
		}
	})
}

func TestPolicyReadsItsWords(t *testing.T) {
	p := newPolicy(&configs.Retry{Attempts: 3, On: []string{"connect", "auth", "429", "5xx", "error_event"}})
	q := newPolicy(&configs.Retry{Attempts: 1, On: []string{"404", "503"}})
	if !p.connect || !p.event || q.connect || q.event || p.attempts != 3 {
		t.Errorf("%v %v %v %v", p.connect, p.event, q.connect, q.event)
	}
	for status, want := range map[int][2]bool{
		200: {}, 400: {}, 401: {true, false}, 402: {true, false}, 403: {true, false}, 404: {false, true}, 429: {true, false},
		500: {true, false}, 503: {true, true}, 529: {true, false}, 599: {true, false}, 600: {}, 999: {},
	} {
		if got := [2]bool{p.covers(status), q.covers(status)}; got != want {
			t.Errorf("%d: %v, want %v", status, got, want)
		}
	}
}

func TestBudgetIsAFifthOfTheRequests(t *testing.T) {
	var b budget
	b.fifths.Store(budgetFull)
	paid := 0
	for b.withdraw() {
		paid++
	}
	if paid != budgetFull/5 {
		t.Errorf("%d retries were saved", paid)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 25 {
				b.deposit()
			}
		})
	}
	wg.Wait()
	for paid = 0; b.withdraw(); paid++ {
	}
	if paid != 20 {
		t.Errorf("%d retries after 100 requests", paid)
	}
	for range 10 * budgetFull {
		b.deposit()
	}
	b.refund()
	if n := b.fifths.Load(); n > budgetFull+5 {
		t.Errorf("saved %d fifths", n)
	}
}
