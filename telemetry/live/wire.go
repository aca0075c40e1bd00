package live

import (
	"encoding/json"
	"math"
	"strconv"
	"time"
)

// Snapshot is what a viewer gets: GET /live/state and the events of
// /live/events, "state" first and a "tick" each second. Rates are per second;
// those of upstreams, tenants and models are averages over about ten seconds.
// What takes time is in seconds.
type Snapshot struct {
	Seq       uint64     `json:"seq"`     // of the second, from the relay's start
	Time      int64      `json:"time"`    // the second of Point, in Unix seconds
	Seconds   int64      `json:"seconds"` // that Point stands for, up to Time: 1, and more where the relay was late
	Relay     Relay      `json:"relay"`
	Totals    Totals     `json:"totals"`
	Point     Values     `json:"point"` // the columns of History, for this second
	Upstreams []Upstream `json:"upstreams"`
	Tenants   []Ranked   `json:"tenants"` // the busiest; all others together are named "" and stand last
	Models    []Ranked   `json:"models"`
	Log       RequestLog `json:"log"`
	Keys      Keys       `json:"keys"`
	Requests  []Request  `json:"requests"`          // the oldest first: those that are kept, in a tick those of its second
	History   *History   `json:"history,omitempty"` // not in a tick
}

// Relay says which relay this is and how it is.
type Relay struct {
	Version  string    `json:"version"`
	Revision string    `json:"revision"`
	PID      int       `json:"pid"`
	Started  time.Time `json:"started"`
	Ready    bool      `json:"ready"`
	State    string    `json:"state"` // as /readyz says it
	Reload   Reload    `json:"reload"`
}

// Reload is the last reading of the configuration.
type Reload struct {
	OK    bool      `json:"ok"`
	At    time.Time `json:"at"`
	Error string    `json:"error,omitempty"` // why the configuration of before stayed
}

// Totals count from the relay's start, and agree with /metrics.
type Totals struct {
	Requests  uint64            `json:"requests"`
	Failed    uint64            `json:"failed"` // that ended neither with completed nor with client_gone
	Ends      map[string]uint64 `json:"ends"`   // by end reason
	TokensIn  uint64            `json:"tokens_in"`
	TokensOut uint64            `json:"tokens_out"`
	BytesIn   uint64            `json:"bytes_in"`
	BytesOut  uint64            `json:"bytes_out"`
	Events    uint64            `json:"events"`
}

// Levels are counts of this moment.
type Levels struct{ Streams, InFlight, Connections int64 }

// Upstream is the state of one upstream, and what it did of late.
type Upstream struct {
	Name        string       `json:"name"`
	Dialect     string       `json:"dialect"`
	Host        string       `json:"host"`
	State       string       `json:"state"` // up, open, half_open, down
	ForSeconds  float64      `json:"for_seconds"`
	Why         string       `json:"why"` // of its health check
	Priority    int          `json:"priority"`
	Connections int          `json:"connections"`
	Idle        int          `json:"idle"`
	InFlight    int64        `json:"in_flight"`
	Credentials []Credential `json:"credentials"`
	Use                      // filled by this package
}

// Credential is the state of one of an upstream's credentials; never its value.
type Credential struct {
	Name       string  `json:"name"`
	State      string  `json:"state"` // up, resting, refused
	ForSeconds float64 `json:"for_seconds"`
	InFlight   int64   `json:"in_flight"`
}

// Use is what somebody or something was used for.
type Use struct {
	Requests  Number `json:"requests"` // per second, of late, as all up to TTFT
	Failed    Number `json:"failed"`
	TokensIn  Number `json:"tokens_in"`
	TokensOut Number `json:"tokens_out"`
	TTFT      Number `json:"ttft"` // mean

	TotalRequests  uint64 `json:"total_requests"`
	TotalFailed    uint64 `json:"total_failed"`
	TotalTokensIn  uint64 `json:"total_tokens_in"`
	TotalTokensOut uint64 `json:"total_tokens_out"`
}

// Ranked is one of the busiest tenants or models.
type Ranked struct {
	Name string `json:"name"`
	Use
}

// RequestLog is the state of the request log, in rows.
type RequestLog struct {
	Kind        string    `json:"kind"` // clickhouse, files, off
	Appended    uint64    `json:"appended"`
	Sealed      uint64    `json:"sealed"`
	Stored      uint64    `json:"stored"`
	Waiting     int64     `json:"waiting"` // in files, for ClickHouse
	Dropped     uint64    `json:"dropped"`
	Quarantined uint64    `json:"quarantined"`
	LastStored  time.Time `json:"last_stored"`
	Shards      []Shard   `json:"shards"`
	LinesLost   uint64    `json:"lines_lost"` // of the process's log, which its reader was too slow for
}

// Shard says whether rows go to it as they come.
type Shard struct {
	Name string `json:"name"`
	Up   bool   `json:"up"`
}

// Keys is the state of the keys' store.
type Keys struct {
	Store        string  `json:"store"` // file, redis, static
	Ready        bool    `json:"ready"`
	Phase        string  `json:"phase"` // ready, syncing, away, lost
	Error        string  `json:"error"`
	Keys         int     `json:"keys"`
	StaleSeconds float64 `json:"stale_seconds"`
	LeftSeconds  float64 `json:"left_seconds"`
	Relays       int64   `json:"relays"`
	Calls        int64   `json:"calls"`
	CallErrors   int64   `json:"call_errors"`
}

// Request is one that has ended.
type Request struct {
	Time      int64   `json:"time"` // of its end, in Unix milliseconds
	ID        string  `json:"id"`   // as the client sees it
	Tenant    string  `json:"tenant"`
	Endpoint  string  `json:"endpoint"`
	Model     string  `json:"model"`
	Upstream  string  `json:"upstream"`
	Status    int     `json:"status"`
	End       string  `json:"end"`
	Failed    bool    `json:"failed"`
	Code      string  `json:"code"` // of the relay's own error
	Stream    bool    `json:"stream"`
	TTFT      Number  `json:"ttft"`
	Duration  float64 `json:"duration"`
	TokensIn  Number  `json:"tokens_in"`
	TokensOut Number  `json:"tokens_out"`
	Attempts  int     `json:"attempts"`
}

// History holds a value for each second from From on. A column that was 0, or
// nothing, throughout is missing.
type History struct {
	From    int64             `json:"from"` // Unix seconds
	Seconds int               `json:"seconds"`
	Columns map[string]Column `json:"columns"`
}

// Values are numbers by name. What is missing is 0, or a quantile of nothing.
type Values map[string]Number

// Number is NaN where there is none, null in JSON.
type Number float64

// MarshalJSON writes four digits, and all of a whole number.
func (n Number) MarshalJSON() ([]byte, error) { return appendNumber(nil, float64(n)), nil }

// UnmarshalJSON reads a number or null.
func (n *Number) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*n = Number(none)
		return nil
	}
	v, err := strconv.ParseFloat(string(b), 64)
	*n = Number(v)
	return err
}

// Column holds one value each second, NaN for none, null in JSON.
type Column []float32

// MarshalJSON writes a list.
func (c Column) MarshalJSON() ([]byte, error) {
	b := append(make([]byte, 0, 6*len(c)+2), '[')
	for i, v := range c {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendNumber(b, float64(v))
	}
	return append(b, ']'), nil
}

// UnmarshalJSON reads a list of numbers and nulls.
func (c *Column) UnmarshalJSON(b []byte) error {
	var list []Number
	if err := json.Unmarshal(b, &list); err != nil {
		return err
	}
	*c = make(Column, len(list))
	for i, n := range list {
		(*c)[i] = float32(n)
	}
	return nil
}

func appendNumber(b []byte, v float64) []byte {
	switch {
	case v != v || math.IsInf(v, 0):
		return append(b, "null"...)
	case v == math.Trunc(v) && math.Abs(v) < 1<<53:
		return strconv.AppendInt(b, int64(v), 10)
	case math.Abs(v) >= 1000: // four digits would cut off whole ones
		return strconv.AppendFloat(b, v, 'f', 1, 64)
	}
	return strconv.AppendFloat(b, v, 'g', 4, 64)
}
