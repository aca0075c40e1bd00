package load

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"streamrelay/bench/simulate"
)

// phases are the moments at which a client leaves.
var phases = []struct{ name, simulate, body string }{
	{"before_head", "ttft=60s", `{"model":"simulated","stream":true}`},
	{"mid_stream", "gap=500ms,events=100", `{"model":"simulated","stream":true,"stream_options":{"include_usage":true}}`},
	{"non_stream", "ttft=60s", `{"model":"simulated"}`},
}

const (
	// batch is how many clients are open at a time.
	batch = 10
	// noticesEach is after how many clients the provider is asked what it noticed.
	noticesEach = 4000
)

// cancel lets Streams clients leave in each phase, once the provider has their
// requests, and asks it when it noticed.
func (r *run) cancel(ctx context.Context, res *Result) error {
	// The provider is a simulated one with a certificate of its own making.
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	ask := &http.Client{Transport: transport, Timeout: 5 * time.Second}

	left := map[string]int64{} // id to the time of our close
	seen := map[string]int64{}
	asked := 0 // how many of left there were when we asked last
	notices := func() error {
		var list []simulate.Cancel
		err := r.until(ctx, ask, "/sim/cancels", &list, func() bool {
			for _, one := range list {
				if _, ours := left[one.ID]; ours {
					seen[one.ID] = one.At
				}
			}
			return len(seen) >= len(left)
		})
		if errors.Is(err, errPatience) {
			return nil // they are counted as never noticed
		}
		return err
	}
	for _, ph := range phases {
		for i := 0; i < r.job.Streams; i += batch {
			if err := r.leave(ctx, ask, left, ph.name, ph.simulate, ph.body, i, min(i+batch, r.job.Streams)); err != nil {
				return err
			}
			if len(left)-asked >= noticesEach { // the provider remembers some thousands
				asked = len(left)
				if err := notices(); err != nil {
					return err
				}
			}
		}
	}
	if err := notices(); err != nil {
		return err
	}
	res.Cancels = map[string]Summary{}
	a := r.arms[0]
	for _, ph := range phases {
		var h Histogram
		for i := range r.job.Streams {
			at, ok := left[r.cancelID(ph.name, i)]
			if !ok {
				continue
			}
			a.requests.Add(1)
			if notice, ok := seen[r.cancelID(ph.name, i)]; ok {
				if notice < at {
					r.strange.Store(true)
				}
				h.Add(notice - at)
			} else {
				res.Never++
				a.failed.Add(1)
				a.fail(errNever)
			}
		}
		res.Cancels[ph.name] = h.Summary()
		a.latency.merge(&h)
	}
	return nil
}

var errNever = errors.New("the provider never noticed")

func (r *run) cancelID(phase string, i int) string { return fmt.Sprintf("%s.%s.%d", r.nonce, phase, i) }

// leave opens the clients from up to to of a phase, waits until the provider
// has their requests and they have what comes before they leave, and closes one
// after the other.
func (r *run) leave(ctx context.Context, ask *http.Client, left map[string]int64, phase, how, body string, from, to int) error {
	var before, now simulate.Stats
	if err := r.until(ctx, ask, "/sim/stats", &before, func() bool { return true }); err != nil {
		return err
	}
	a := r.arms[0]
	open := map[string]*client{}
	for i := from; i < to; i++ {
		id := r.cancelID(phase, i)
		q, err := r.query(a.endpoint, &Request{Name: phase, Path: "/chat/completions", Body: body, Simulate: how}, id, "")
		if err != nil {
			return err
		}
		c, err := r.dial(ctx, a, i)
		if err != nil {
			a.fail(err)
			continue
		}
		defer c.close()
		if err := c.send(q, simulate.Now()); err != nil {
			a.fail(err)
			continue
		}
		open[id] = c
	}
	arrived := func() bool { return now.Requests >= before.Requests+int64(len(open)) }
	if err := r.until(ctx, ask, "/sim/stats", &now, arrived); err != nil {
		return fmt.Errorf("%d of %d requests reached the provider: %w", now.Requests-before.Requests, len(open), err)
	}
	if phase == "mid_stream" {
		for id, c := range open {
			if err := c.firstEvent(); err != nil {
				a.fail(err)
				delete(open, id)
			}
		}
	}
	for id, c := range open {
		if err := sleep(ctx, 3*time.Millisecond); err != nil {
			return err
		}
		left[id] = simulate.Now()
		c.nc.Close()
	}
	return nil
}

var errBegun = errors.New("an event came")

// firstEvent reads up to the first content event.
func (c *client) firstEvent() error {
	q := c.asked.Load()
	c.exact.reset(q.want)
	h, err := c.head()
	if err != nil {
		return err
	}
	if h.status != 200 {
		return c.refused(h)
	}
	err = c.body(h, func(b []byte) error {
		if err := c.exact.feed(b, c.onExact); err != nil {
			return err
		}
		if c.exact.marks > 0 {
			return errBegun
		}
		return nil
	})
	if errors.Is(err, errBegun) {
		return nil
	}
	return errOr(err, errIncomplete)
}

var errPatience = errors.New("waited 3 s in vain")

// until reads a page of the provider into v again and again until ok says so.
func (r *run) until(ctx context.Context, ask *http.Client, page string, v any, ok func() bool) error {
	for deadline := time.Now().Add(3 * time.Second); ; {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.job.ProviderURL+page, nil)
		if err != nil {
			return fmt.Errorf("ask the provider: %w", err)
		}
		resp, err := ask.Do(req)
		if err != nil {
			return fmt.Errorf("ask the provider: %w", err)
		}
		err = json.NewDecoder(resp.Body).Decode(v)
		resp.Body.Close()
		if err != nil {
			return fmt.Errorf("read the provider's %s: %w", page, err)
		}
		if ok() {
			return nil
		}
		if time.Now().After(deadline) {
			return errPatience
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}
