package proxy

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"streamrelay/configs"
	"streamrelay/proxy/watch"
)

// step is one thing that happens to an answer. Times are seconds of a clock
// that stands where the test puts it.
type step struct {
	at   int    // when
	feed string // bytes that come; "": the deadline is looked at

	comment  bool      // a comment is due
	err      *apiError // what ends the answer
	deadline int       // until when to wait afterwards; 0: for ever
}

// TestAnswerDeadlines drives the state machine through a clock of its own:
// nothing here waits.
func TestAnswerDeadlines(t *testing.T) {
	const s = time.Second
	const comment, half, event = ": still here\n\n", "data: {\"choi", "ces\":[]}\n\n"
	for _, c := range []struct {
		name     string
		timeouts configs.Timeouts
		keep     time.Duration
		media    string // "": an event stream
		coding   string
		began    int // when the exchange did
		sent     int // when the request had left; the head came at 10
		first    int // the deadline right after the head
		steps    []step
	}{
		{name: "none: waits for ever", steps: []step{{at: 1e6}, {at: 2e6, feed: event}}},

		{name: "idle counts from the last bytes", timeouts: configs.Timeouts{Idle: 30 * s}, first: 40, steps: []step{
			{at: 20, feed: "data: x\n\n", deadline: 50}, {at: 49, deadline: 50}, {at: 50, err: errIdleTimeout}}},
		{name: "idle: a comment is life", timeouts: configs.Timeouts{Idle: 30 * s}, first: 40, steps: []step{
			{at: 39, feed: comment, deadline: 69}, {at: 40, deadline: 69}, {at: 68, feed: ":\n", deadline: 98}, {at: 98, err: errIdleTimeout}}},
		{name: "idle: half an event is life", timeouts: configs.Timeouts{Idle: 30 * s}, first: 40, steps: []step{
			{at: 39, feed: half, deadline: 69}, {at: 68, feed: event, deadline: 98}}},
		{name: "idle of a document", timeouts: configs.Timeouts{Idle: 30 * s}, media: "application/json", first: 40, steps: []step{
			{at: 15, feed: "{", deadline: 45}, {at: 45, err: errIdleTimeout}}},
		{name: "idle: a comment of our own is no life", timeouts: configs.Timeouts{Idle: 30 * s}, keep: 20 * s, first: 30, steps: []step{
			{at: 30, comment: true, deadline: 40}, {at: 40, err: errIdleTimeout}}},

		{name: "first event counts from the request", timeouts: configs.Timeouts{FirstEvent: 60 * s}, sent: 5, first: 65, steps: []step{
			{at: 64, deadline: 65}, {at: 65, err: errFirstEventTimeout}}},
		{name: "first event: comments do not count", timeouts: configs.Timeouts{FirstEvent: 60 * s}, first: 60, steps: []step{
			{at: 20, feed: comment, deadline: 60}, {at: 59, feed: ": x\n", deadline: 60}, {at: 60, err: errFirstEventTimeout}}},
		{name: "first event: half of one does not count", timeouts: configs.Timeouts{FirstEvent: 60 * s}, first: 60, steps: []step{
			{at: 59, feed: half, deadline: 60}, {at: 60, err: errFirstEventTimeout}}},
		{name: "first event: after it, no more", timeouts: configs.Timeouts{FirstEvent: 60 * s}, first: 60, steps: []step{
			{at: 59, feed: half + event}, {at: 6000}}},
		{name: "first event: not of a document", timeouts: configs.Timeouts{FirstEvent: 60 * s}, media: "application/json", steps: []step{{at: 6000}}},
		{name: "first event: not where nobody can look", timeouts: configs.Timeouts{FirstEvent: 60 * s}, coding: "x-unheard-of", steps: []step{{at: 6000}}},
		{name: "first event before idle", timeouts: configs.Timeouts{FirstEvent: 20 * s, Idle: 30 * s}, first: 20, steps: []step{
			{at: 15, feed: "data: x\n\n", deadline: 45}, {at: 45, err: errIdleTimeout}}},

		{name: "total counts from the exchange's start", timeouts: configs.Timeouts{Total: 100 * s}, began: 3, first: 103, steps: []step{
			{at: 50, feed: "data: x\n\n", deadline: 103}, {at: 102, feed: "data: y\n\n", deadline: 103}, {at: 103, err: errTotalTimeout}}},
		{name: "total before idle where both have passed", timeouts: configs.Timeouts{Total: 100 * s, Idle: 30 * s}, first: 40, steps: []step{
			{at: 200, err: errTotalTimeout}}},
		{name: "total of a document", timeouts: configs.Timeouts{Total: 100 * s}, media: "application/json", first: 100, steps: []step{
			{at: 100, err: errTotalTimeout}}},

		{name: "comment only into silence", keep: 20 * s, first: 30, steps: []step{
			{at: 29, feed: "data: x\n\n", deadline: 49}, {at: 30, deadline: 49}, {at: 49, comment: true, deadline: 69}, {at: 50, deadline: 69}, {at: 69, comment: true, deadline: 89}}},
		{name: "comment: the upstream's own is no silence", keep: 20 * s, first: 30, steps: []step{
			{at: 29, feed: comment, deadline: 49}, {at: 49, comment: true, deadline: 69}}},
		{name: "comment not within an event", keep: 20 * s, first: 30, steps: []step{
			{at: 20, feed: half, deadline: 40}, {at: 40, deadline: 60}, {at: 60, deadline: 80}, {at: 70, feed: event, deadline: 90}, {at: 90, comment: true, deadline: 110}}},
		{name: "comment not between an event's last line and its empty one", keep: 20 * s, first: 30, steps: []step{
			{at: 20, feed: "data: x\n", deadline: 40}, {at: 40, deadline: 60}, {at: 50, feed: "\n", deadline: 70}, {at: 70, comment: true, deadline: 90}}},
		{name: "comment not behind the upstream's own, unended", keep: 20 * s, first: 30, steps: []step{
			{at: 20, feed: ": x\n", deadline: 40}, {at: 40, deadline: 60}}},
		{name: "comment not into a document", keep: 20 * s, media: "application/json", steps: []step{{at: 6000}}},
		{name: "comment not between compressed bytes", keep: 20 * s, coding: "gzip", steps: []step{{at: 6000}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			sec := func(n int) int64 { return int64(n) * int64(s) }
			if c.media == "" {
				c.media = sse
			}
			a := setting{
				framing: framedByClose, media: c.media, coding: c.coding, timeouts: c.timeouts,
				stream: configs.Stream{KeepaliveComment: c.keep}, began: sec(c.began), sent: sec(c.sent), now: sec(10),
			}.answer()
			defer a.end(0)
			if got := a.deadline(); got != sec(c.first) {
				t.Fatalf("after the head: deadline %d s, want %d", got/int64(s), c.first)
			}
			for i, st := range c.steps {
				if st.feed != "" {
					if _, out, _, e := a.feed([]byte(st.feed), sec(st.at)); e != nil || string(out) != st.feed {
						t.Fatalf("step %d: out %q, %v", i, out, e)
					}
				} else {
					comment, e := a.expired(sec(st.at))
					if comment != st.comment || e != st.err {
						t.Fatalf("step %d at %d s: comment %t, %v; want %t, %v", i, st.at, comment, e, st.comment, st.err)
					}
					if a.failed != (e != nil) {
						t.Fatalf("step %d: failed %t", i, a.failed)
					}
					if e != nil {
						if got := a.reason(200, e, false); got != e.end {
							t.Errorf("reason %v, want %v", got, e.end)
						}
						return
					}
				}
				if got := a.deadline(); got != sec(st.deadline) {
					t.Fatalf("step %d: deadline %d s, want %d", i, got/int64(s), st.deadline)
				}
			}
		})
	}
}

func TestAnswerDeadlineIsAlwaysAheadOfTheTimeItExpiredAt(t *testing.T) {
	// Else the owner would spin: woken, told to go on waiting, until a time
	// that has passed.
	const s = int64(time.Second)
	a := setting{framing: framedByClose, media: sse, timeouts: configs.Timeouts{Idle: 90 * time.Second, FirstEvent: 70 * time.Second, Total: 80 * time.Second}, stream: configs.Stream{KeepaliveComment: 7 * time.Second}}.answer()
	for now := int64(0); now < 100*s; now += s / 3 {
		_, e := a.expired(now)
		if e != nil {
			if now < 70*s {
				t.Fatalf("%v at %d", e, now)
			}
			return
		}
		if at := a.deadline(); at <= now {
			t.Fatalf("at %d waits until %d", now, at)
		}
	}
	t.Error("never gave up")
}

func TestAnswerFailureIsAnEventOfTheDialect(t *testing.T) {
	const id = "req-1"
	for _, c := range []struct {
		name    string
		dialect dialect
		family  watch.Family
		fed     string
		want    string // how it begins
		open    bool   // what was half sent is closed first
	}{
		{"chat", dialectOpenAI, watch.Chat, chatEvents, "data: {\"error\":", false},
		{"chat within an event", dialectOpenAI, watch.Chat, "data: {\"ch", "data: {\"error\":", true},
		{"chat within a comment", dialectOpenAI, watch.Chat, ": x", "data: {\"error\":", true},
		{"chat behind a line", dialectOpenAI, watch.Chat, "data: {}\r\n", "data: {\"error\":", true},
		{"chat before anything", dialectOpenAI, watch.Chat, "", "data: {\"error\":", false},
		{"azure", dialectAzure, watch.Chat, chatEvents, "data: {\"error\":", false},
		{"responses", dialectOpenAI, watch.Responses, responsesEvents, "event: error\ndata: {\"type\":\"error\",\"code\":\"upstream_error\"", false},
		{"responses on azure", dialectAzure, watch.Responses, responsesEvents, "event: error\ndata: {\"type\":\"error\"", false},
		{"messages", dialectAnthropic, watch.Messages, messagesEvents, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\"", false},
		{"messages within an event", dialectAnthropic, watch.Messages, "event: ping\n", "event: error\ndata: ", true},
		{"gemini", dialectGemini, watch.Gemini, geminiEvents, "data: {\"error\":{\"code\":502", false},
		{"an anthropic path of another family", dialectAnthropic, watch.Responses, "", "event: error\ndata: {\"type\":\"error\",\"error\":", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := setting{framing: framedByClose, media: sse, dialect: c.dialect, family: c.family}.answer()
			_, _, _, _ = a.feed([]byte(c.fed), 1)
			a.failed = true
			a.end(1)
			got := string(a.appendFailure([]byte("kept|"), errUpstreamCut, []byte(id)))
			got, ok := strings.CutPrefix(got, "kept|")
			if !ok {
				t.Fatalf("%q does not stand behind what was there", got)
			}
			if c.open {
				if got, ok = strings.CutPrefix(got, "\n\n"); !ok {
					t.Fatalf("%q does not close what was half sent", got)
				}
			}
			if !strings.HasPrefix(got, c.want) || !strings.HasSuffix(got, "}\n\n") {
				t.Errorf("%q, want it to begin with %q", got, c.want)
			}
			data := got[strings.Index(got, "data: ")+6:]
			if !json.Valid([]byte(strings.TrimSuffix(data, "\n\n"))) || strings.Count(got, "\n\n") != 1 {
				t.Errorf("not one event with JSON: %q", got)
			}
			if strings.Contains(got, "[DONE]") {
				t.Errorf("looks like a proper end: %q", got)
			}
			if c.dialect == dialectAnthropic && !strings.Contains(got, `"request_id":"`+id+`"`) {
				t.Errorf("no request id in %q", got)
			}
			if c.name == "responses" && !strings.Contains(got, `"sequence_number":2`) {
				t.Errorf("the sequence does not go on after 1: %q", got)
			}
		})
	}
}

func TestAnswerFailureIsSilentWhereNothingCanBeSaid(t *testing.T) {
	for _, c := range []struct {
		name, media, coding, fed string
		family                   watch.Family
	}{
		{"document", "application/json", "", "{", watch.Chat},
		{"binary", "audio/mpeg", "", "x", watch.Other},
		{"compressed events", sse, "gzip", "\x1f\x8b", watch.Chat},
		{"unknown coding", sse, "x-unheard-of", "x", watch.Chat},
		{"after the last event", sse, "", chatDone, watch.Chat},
		{"after the upstream's own error event", sse, "", errorEvent, watch.Chat},
		{"after message_stop", sse, "", messagesDone, watch.Messages},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := setting{framing: framedByClose, media: c.media, coding: c.coding, family: c.family}.answer()
			_, _, _, _ = a.feed([]byte(c.fed), 1)
			a.end(1)
			if got := a.appendFailure(nil, errUpstreamCut, nil); len(got) != 0 {
				t.Errorf("said %q", got)
			}
		})
	}
}

func TestAnswerFailureFitsTheRoomThatTheCarrierHas(t *testing.T) {
	// fail gives it 512 bytes on the stack; more would be an allocation.
	id := []byte(strings.Repeat("x", 128))
	for _, l := range namedErrors {
		e := l.err
		for d := range dialectNames {
			for _, family := range []watch.Family{watch.Chat, watch.Responses} {
				a := setting{framing: framedByClose, media: sse, dialect: dialect(d), family: family}.answer()
				_, _, _, _ = a.feed([]byte("data: x"), 1)
				if n := len(a.appendFailure(nil, e, id)); n > 512 && e.status >= 500 {
					t.Errorf("%s in %s: %d bytes", e.code, dialectNames[d], n)
				}
			}
		}
	}
}

func TestAnswerKeepaliveIsABlockOfItsOwn(t *testing.T) {
	var s watch.Stream
	s.Reset(watch.Chat, false)
	s.Feed([]byte(chatDone), 1)
	s.Feed(keepalive, 2)
	if s.Events() != 1 || s.MidEvent() || keepalive[0] != ':' {
		t.Errorf("%q is no comment that ends itself", keepalive)
	}
}
