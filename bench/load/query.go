package load

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"streamrelay/bench/simulate"
)

// Request is one kind of request.
type Request struct {
	Name     string   `json:"name"`
	Path     string   `json:"path"`     // behind the endpoint's, such as /chat/completions
	Body     string   `json:"body"`     // JSON
	Simulate string   `json:"simulate"` // X-Simulate; an id is added
	Weight   int      `json:"weight"`   // share in a mix; 0 is 1
	NoUsage  bool     `json:"no_usage"` // answers show "usage":null and no usage event (simulate.Expect)
	Length   Duration `json:"length"`   // what an answer takes by plan, added to the time it is given
}

// For returns the request for a model: requests name "simulated" by themselves.
func (q Request) For(model string) Request {
	if model != "" {
		name, _ := json.Marshal(model) // a string always can be
		q.Body = strings.Replace(q.Body, `"model":"simulated"`, `"model":`+string(name), 1)
	}
	return q
}

// query is a Request ready to be sent, and its answer.
type query struct {
	raw      []byte
	stream   bool
	want     *simulate.Expected // nil: only the form is checked
	terminal []byte
	header   string        // its X-Simulate
	limit    time.Duration // from its due time, then it is given up
	request  *Request
}

// base is what answers hold where a request does not say so.
var base = simulate.Profile{Events: 64, Size: 220, Prompt: 7}

// terminalOf is what the last event of a stream is known by: its type, in quotes,
// or its data where that is not JSON.
func terminalOf(path string) []byte {
	switch {
	case strings.HasSuffix(path, "/responses"):
		return []byte(`"response.completed"`)
	case strings.HasSuffix(path, "/messages"):
		return []byte(`"message_stop"`)
	}
	return []byte("[DONE]")
}

// query builds a request to e whose X-Simulate is q's with more added.
func (r *run) query(e *endpoint, q *Request, id, more string) (*query, error) {
	named := q.For(r.job.Model)
	q = &named
	var body struct {
		Stream bool `json:"stream"`
	}
	if err := json.Unmarshal([]byte(q.Body), &body); err != nil {
		return nil, fmt.Errorf("request %s: its body is not JSON: %w", q.Name, err)
	}
	header := strings.Trim(q.Simulate+","+more+",id="+id, ",")
	if r.job.Exact { // whatever the provider was started with
		header = fmt.Sprintf("events=%d,size=%d,prompt=%d,cached=%d,%s", base.Events, base.Size, base.Prompt, base.Cached, header)
	}
	profile, err := simulate.ParseProfile(base, []byte(header))
	if err != nil {
		return nil, fmt.Errorf("request %s: %w", q.Name, err)
	}
	out := &query{stream: body.Stream, terminal: terminalOf(q.Path), header: header, limit: r.job.Timeout + q.Length, request: q}
	if r.job.Exact {
		profile.NoDone = false // a fault to be found
		want, err := simulate.Expect(q.Path, q.Body, profile, q.NoUsage)
		if err != nil {
			return nil, err
		}
		out.want = &want
	}
	out.raw = e.raw(q, header)
	return out, nil
}

// raw is a request as sent.
func (e *endpoint) raw(q *Request, header string) []byte {
	b := fmt.Appendf(nil, "POST %s%s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nX-Simulate: %s\r\n",
		e.path, q.Path, e.host, e.Key, header)
	if strings.HasSuffix(q.Path, "/messages") {
		b = fmt.Appendf(b, "x-api-key: %s\r\nanthropic-version: 2023-06-01\r\n", e.Key)
	}
	return fmt.Appendf(b, "Content-Length: %d\r\n\r\n%s", len(q.Body), q.Body)
}

// mix is the order in which kinds of requests come.
type mix []*query

// mixOf spreads each kind as evenly as its weight allows (smooth weighted round
// robin), so that the order is the same in every run.
func mixOf(queries []*query) mix {
	total := 0
	weight := func(i int) int { return max(queries[i].request.Weight, 1) }
	for i := range queries {
		total += weight(i)
	}
	current := make([]int, len(queries))
	var m mix
	for range total {
		best := 0
		for i := range queries {
			if current[i] += weight(i); current[i] > current[best] {
				best = i
			}
		}
		current[best] -= total
		m = append(m, queries[best])
	}
	return m
}

func (m mix) at(k int) *query { return m[k%len(m)] }
