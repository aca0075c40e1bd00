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

// batch is how many clients are open at a time.
const batch = 10

// cancel lets Streams clients leave in each phase, once the provider has their
// requests, and asks it when it noticed.
func (r *run) cancel(ctx context.Context) (res Result, err error) {
	// The provider is a simulated one with a certificate of its own making.
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	ask := &http.Client{Transport: transport, Timeout: 5 * time.Second}

	left := map[string]int64{} // id to the time of our close
	for _, ph := range phases {
		r.job.Body = ph.body
		for i := 0; i < r.job.Streams; i += batch {
			if err := r.leave(ctx, ask, left, ph.name, ph.simulate, i, min(i+batch, r.job.Streams)); err != nil {
				return res, err
			}
		}
	}
	var list []simulate.Cancel
	if err := r.until(ctx, ask, "/sim/cancels", &list, func() bool { return len(list) >= len(left) }); err != nil && !errors.Is(err, errPatience) {
		return res, err
	}
	seen := make(map[string]int64, len(list))
	for _, one := range list {
		seen[one.ID] = one.At
	}
	res.Cancels = map[string]Summary{}
	for _, ph := range phases {
		var h Histogram
		for i := range r.job.Streams {
			at, ok := left[cancelID(ph.name, i)]
			if !ok {
				continue
			}
			if notice, ok := seen[cancelID(ph.name, i)]; ok {
				h.Add(notice - at)
			} else {
				res.Never++
			}
		}
		res.Cancels[ph.name] = h.Summary()
	}
	r.complete(&res)
	res.Requests = int64(len(left))
	return res, nil
}

func cancelID(phase string, i int) string { return fmt.Sprintf("%s.%d", phase, i) }

// leave opens the clients from up to to of a phase, waits until the provider
// has their requests and they have what comes before they leave, and closes one
// after the other.
func (r *run) leave(ctx context.Context, ask *http.Client, left map[string]int64, phase, how string, from, to int) error {
	var before, now simulate.Stats
	if err := r.until(ctx, ask, "/sim/stats", &before, func() bool { return true }); err != nil {
		return err
	}
	open := map[string]*client{}
	for i := from; i < to; i++ {
		id := cancelID(phase, i)
		q, err := r.query(id, how)
		if err != nil {
			return err
		}
		c, err := dial(r, i, time.Now().Add(slack))
		if err != nil {
			r.failed(err)
			continue
		}
		defer c.close()
		if err := c.send(q); err != nil {
			r.failed(err)
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
				r.failed(err)
				delete(open, id)
			}
		}
	}
	for id, c := range open {
		if err := sleep(ctx, 3*time.Millisecond); err != nil {
			return err
		}
		left[id] = simulate.Now()
		c.close()
	}
	return nil
}

// firstEvent reads up to the first content event.
func (c *client) firstEvent() error {
	if _, err := c.head(); err != nil {
		return err
	}
	now := simulate.Now()
	for c.check.mark == 0 {
		size, err := c.chunkSize(&now)
		if err != nil {
			return err
		}
		for c.w-c.r < size+2 {
			if now, err = c.fill(); err != nil {
				return err
			}
		}
		if err := c.check.feed(c.buf[c.r:c.r+size], now); err != nil {
			return err
		}
		c.r += size + 2
	}
	return nil
}

var errPatience = errors.New("waited 3 s in vain")

// until reads a page of the provider into v again and again until ok says so.
func (r *run) until(ctx context.Context, ask *http.Client, page string, v any, ok func() bool) error {
	for deadline := time.Now().Add(3 * time.Second); ; {
		resp, err := ask.Get(r.job.ProviderURL + page)
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
