package requestlog

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"streamrelay/configs"
	"streamrelay/telemetry"
	"streamrelay/telemetry/clickhouse"
	"streamrelay/telemetry/clickhouse/chtest"
	"streamrelay/telemetry/spool"
)

// request is the i-th exchange of a test: most often a stream that went well,
// now and then one that did not.
func request(i int) *telemetry.Request {
	g := new(telemetry.Gaps)
	g.Add(20e6)
	g.Add(20e6)
	g.Add(3e9)
	start := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC).UnixNano() + int64(i)*1e6
	r := &telemetry.Request{
		ID: telemetry.NewID(start), Start: start,
		Tenant: []byte([]string{"acme", "globex", "initech"}[i%3]), KeyID: []string{"k1", "k2"}[i%2],
		Model: []byte([]string{"m1", "m2", "m3", "m4"}[i%4]), Method: []byte("POST"), UserAgent: []byte("OpenAI/Python 1.2.3"),
		Client: netip.MustParseAddr("192.0.2.7"), Upstream: i % 2, Credential: 0, Endpoint: 0,
		Status: 200, UpstreamStatus: 200, End: telemetry.Completed, Stream: true, Attempts: 1,
		Duration: 3200e6, UpstreamHead: 90e6, FirstEvent: 95e6, TTFT: 100e6 + int64(i%100)*1e6, Overhead: 80e3,
		BytesIn: 120, BytesOut: 4096, Events: 4, ContentEvents: 3, Gaps: g,
		Usage: telemetry.Usage{Input: 12, Output: int64(i % 50), Cached: 4, CacheWrite: -1, Reasoning: -1}, UsageSource: telemetry.UsageProvider,
	}
	r.RequestID = telemetry.AppendID(nil, r.ID)
	if i%20 == 7 || i%20 == 2 { // tried elsewhere before, for a client that traces
		r.Attempts = 3
		r.Tries[0] = telemetry.Try{Upstream: 0, Credential: 0, Status: 503, Failure: telemetry.FailureHTTP5xx}
		r.Tries[1] = telemetry.Try{Upstream: 1, Credential: -1, Failure: telemetry.FailureConnect}
		r.TraceID = [16]byte{0x0a, 0xf7, 0x65, 0x19, 0x16, 0xcd, 0x43, 0xdd, 0x84, 0x48, 0xeb, 0x21, 0x1c, 0x80, 0x31, 0x9c}
		r.ParentID = [8]byte{0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31}
	}
	switch {
	case i%10 == 7:
		r.RequestID = binary.AppendUvarint([]byte("mine-"), uint64(i))
	case i%10 == 8:
		r.End, r.Status, r.UsageSource, r.TTFT = telemetry.ClientGone, 499, telemetry.UsageUnknown, 0
	case i%100 == 9:
		r.End, r.Status, r.UpstreamStatus, r.Upstream, r.Credential = telemetry.Denied, 401, 0, -1, -1
		r.Model, r.UsageSource, r.Gaps, r.Stream, r.Error = []byte("invented"), telemetry.UsageUnknown, nil, false, "invalid_api_key"
	}
	return r
}

func options() Options {
	return Options{
		Instance: "relay-1", Endpoints: []string{"chat_completions", "embeddings"},
		Upstreams: []Upstream{{Name: "alpha", Credentials: []string{"1"}}, {Name: "beta", Credentials: []string{"1"}, InputExcludesCache: true}},
		Models:    []string{"m1", "m2"},
		Prices:    map[string]configs.Price{"m1": {Input: 0.5, Output: 1.5, Cached: 0.05, CacheWrite: 0.5}},
		Files:     configs.RequestLog{MaxBytes: configs.GiB, Durability: "spool", Fsync: "never"},
		Log:       zerolog.Nop(),
		Backoff:   10 * time.Millisecond,
		Timeout:   20 * time.Second,
	}
}

// store starts an engine with the log's tables, and returns options of a
// recorder that writes to it.
func store(tb testing.TB) (*chtest.Server, Options) {
	tb.Helper()
	s := chtest.Start(tb)
	o := options()
	o.Files.Dir = tb.TempDir()
	o.ClickHouse = configs.Default().ClickHouse
	o.ClickHouse.Address = s.Native
	migrate(tb, s, &o.ClickHouse)
	return s, o
}

func migrate(tb testing.TB, s *chtest.Server, c *configs.ClickHouse) {
	tb.Helper()
	conn, err := clickhouse.Dial(context.Background(), s.Native, clickhouse.FromConfig(c))
	if err != nil {
		tb.Fatal(err)
	}
	defer conn.Close()
	schema := clickhouse.SchemaOf(&configs.Config{ClickHouse: *c})
	schema.BodyRetention = 10 * 365 * 24 * time.Hour
	schema.Retention = 10 * 365 * 24 * time.Hour // rows of tests have a fixed day
	schema.UsageRetention = schema.Retention
	steps, err := conn.Pending(context.Background(), schema)
	if err == nil {
		err = conn.Apply(context.Background(), schema, steps, "test", func(clickhouse.Step) {})
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// journal is a log that tests read.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) count(text string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.b.String(), text)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

// eventually waits for a state that others bring about; there is no event of it.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for end := time.Now().Add(3 * time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("it never came to pass: %s", what)
		}
	}
}

// sums are what the test knows of the rows that it had recorded.
type sums struct{ rows, input, output, cost, costs uint64 }

func (s *sums) add(r *telemetry.Request) {
	s.rows++
	if r.UsageSource == telemetry.UsageUnknown {
		return
	}
	s.input += uint64(max(r.Usage.Input, 0))
	s.output += uint64(max(r.Usage.Output, 0))
	if string(r.Model) == "m1" { // upstream alpha: cached tokens are within the input
		s.costs++
		s.cost += uint64(8*500 + 4*50 + r.Usage.Output*1500)
	}
}

// wantStored compares the sums with what the engine reads back, from the table
// and from the view's.
func wantStored(tb testing.TB, s *chtest.Server, want sums) {
	tb.Helper()
	got := s.Query("SELECT count(), uniqExact(id), sum(input_tokens), sum(output_tokens), sum(cost_nano), count(cost_nano) FROM relay.request_log")
	text := func(v ...uint64) string {
		parts := make([]string, len(v))
		for i, n := range v {
			parts[i] = strconv.FormatUint(n, 10)
		}
		return strings.Join(parts, "\t")
	}
	if w := text(want.rows, want.rows, want.input, want.output, want.cost, want.costs); got != w {
		tb.Errorf("the table has %s, want %s (rows, ids, input, output, cost, rows with a cost)", got, w)
	}
	got = s.Query("SELECT sum(requests), sum(input_tokens), sum(output_tokens), sum(cost_nano) FROM relay.usage_1h")
	if w := text(want.rows, want.input, want.output, want.cost); got != w {
		tb.Errorf("the view has %s, want %s (rows, input, output, cost)", got, w)
	}
}

// onlyBlock returns the one block in the files below dir.
func onlyBlock(tb testing.TB, dir string) *Block {
	tb.Helper()
	files, err := spool.Files(dir)
	if err != nil || len(files) != 1 {
		tb.Fatalf("%+v, %v", files, err)
	}
	b := new(Block)
	n := 0
	if _, err := spool.Blocks(files[0].Path, nil, func(_ *spool.Header, frame []byte) error { n++; return b.Unpack(frame) }); err != nil || n != 1 {
		tb.Fatalf("%d blocks: %v", n, err)
	}
	return b
}
