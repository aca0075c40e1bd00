package live

import (
	"math"

	"streamrelay/telemetry"
)

// none is a value that there is none of; JSON has null for it.
var none = math.NaN()

// historySeconds is how far back the page looks.
const historySeconds = 900

// maxStepBack is how many seconds the clock may be put back by, as time servers
// do, before the history begins anew.
const maxStepBack = 60

// The columns of the history, one value each second. Counts are per second,
// times in seconds, quantiles over the last windowSeconds.
const (
	colRequests = iota
	colFailed
	colStreams // open now
	colInFlight
	colConnections
	colTokensIn
	colTokensOut
	colBytesIn
	colBytesOut
	colEvents
	colTTFTp50
	colTTFTp90
	colTTFTp99
	colGapP50
	colGapP99
	colAddedP50 // by the relay, before a request left for the upstream
	colAddedP99
	colDelayP50 // by the relay, between an event's reading and its writing
	colDelayP99
	colDurationP50
	colDurationP99
	colEnds    // and one for each end reason
	numColumns = colEnds + numEnds
)

var columnNames = [colEnds]string{
	"requests", "failed", "streams", "in_flight", "connections", "tokens_in", "tokens_out", "bytes_in", "bytes_out", "events",
	"ttft_p50", "ttft_p90", "ttft_p99", "gap_p50", "gap_p99", "added_p50", "added_p99", "delay_p50", "delay_p99",
	"duration_p50", "duration_p99",
}

// columnName returns the name of a column in JSON.
func columnName(i int) string {
	if i < colEnds {
		return columnNames[i]
	}
	return "end_" + telemetry.EndReason(i-colEnds).String()
}

// point is one second. A NaN is a value that there is none of.
type point [numColumns]float32

// history keeps the last historySeconds points, by their time.
type history struct {
	points [historySeconds]point
	at     int64 // Unix second of the last one; 0: there is none
	first  int64 // of the first one there was
}

// put stores the point of the covers seconds up to at, and returns how many of
// them are new. Seconds that were left out have no values.
func (h *history) put(at, covers int64, p *point) int64 {
	if h.at == 0 {
		h.at, h.first = at-1, at
	}
	switch {
	case at <= h.at && at > h.at-maxStepBack && at >= h.from(): // told once more
		h.points[at%historySeconds] = *p
		return 1
	case at <= h.at || at > h.at+historySeconds: // the clock was set
		h.first = at
		h.at = at - 1
	}
	covers = max(min(covers, at-h.at), 1)
	for s := h.at + 1; s <= at; s++ {
		one := &h.points[s%historySeconds]
		if *one = *p; s > at-covers {
			continue
		}
		for i := range one {
			one[i] = float32(none)
		}
	}
	h.at = at
	return covers
}

// from returns the second of the oldest point.
func (h *history) from() int64 { return max(h.first, h.at-historySeconds+1) }

// export returns what viewers get.
func (h *history) export() *History {
	out := &History{From: h.from(), Columns: make(map[string]Column)}
	if h.at == 0 {
		return out
	}
	out.Seconds = int(h.at - out.From + 1)
	for i := range numColumns {
		var values Column
		for s := out.From; s <= h.at; s++ {
			v := h.points[s%historySeconds][i]
			if v == v && v != 0 && values == nil {
				values = make(Column, s-out.From, out.Seconds)
				for k := range values {
					values[k] = h.points[(out.From+int64(k))%historySeconds][i]
				}
			}
			if values != nil {
				values = append(values, v)
			}
		}
		if values != nil {
			out.Columns[columnName(i)] = values
		}
	}
	return out
}

// values returns the point by name.
func (p *point) values() Values {
	v := make(Values, numColumns)
	for i, n := range p {
		if n == n && (i < colEnds || n != 0) {
			v[columnName(i)] = Number(n)
		}
	}
	return v
}
