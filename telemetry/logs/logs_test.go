package logs

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/rs/zerolog"

	"streamrelay/configs"
	"streamrelay/telemetry"
	"streamrelay/telemetry/clickhouse"
	"streamrelay/telemetry/clickhouse/chtest"
	"streamrelay/telemetry/requestlog"
)

const requests = 600

// fill writes the same requests into files, or into ClickHouse where c names one.
func fill(t *testing.T, c *configs.Config) {
	t.Helper()
	r := requestlog.New(requestlog.Options{
		Instance: "relay-1", Endpoints: []string{"chat_completions"}, Upstreams: []requestlog.Upstream{{Name: "alpha"}},
		Prices: map[string]configs.Price{"m0": {Input: 1, Output: 2}}, Models: []string{"m1", "m2"},
		Files: c.RequestLog, ClickHouse: c.ClickHouse, Log: zerolog.Nop(), BlockRows: 100, Interval: 20 * time.Millisecond,
	})
	start := time.Now().UTC().Truncate(24 * time.Hour).Add(-time.Hour)
	for i := range requests {
		at := start.Add(time.Duration(i) * time.Second).UnixNano()
		q := &telemetry.Request{
			ID: testID(at, i), Start: at, RequestID: fmt.Appendf(nil, "mine-%d", i),
			Tenant: fmt.Appendf(nil, "t%d", i%2), UpstreamRequestID: fmt.Appendf(nil, "req_%d", i), KeyID: "k1", Model: fmt.Appendf(nil, "m%d", i%3), Method: []byte("POST"), UserAgent: []byte("=cmd|' /C calc'!A0"),
			Status: 200, UpstreamStatus: 200, Duration: 5e9, TTFT: int64(i+1) * 1e6, UsageSource: telemetry.UsageProvider,
			Usage: telemetry.Usage{Input: int64(i), Output: 1, Cached: -1, CacheWrite: -1, Reasoning: -1},
		}
		if i%10 == 0 {
			q.End, q.UsageSource, q.TTFT = telemetry.UpstreamCut, telemetry.UsageUnknown, 0
		}
		if i%50 == 1 {
			q.Status, q.UpstreamStatus, q.End = 429, 429, telemetry.UpstreamStatus
		}
		if i%100 == 5 {
			q.RequestBody, q.AnswerBody = fmt.Appendf(nil, "ask %d\x00\xff\x1b[31m", i), []byte("line\r\nline\n")
			q.BytesIn, q.BytesOut = int64(len(q.RequestBody)), 5000
		}
		if i%30 == 2 {
			q.Attempts, q.TraceID, q.ParentID = 2, [16]byte{15: byte(i)}, [8]byte{7: 1}
			q.Tries[0] = telemetry.Try{Upstream: 0, Credential: -1, Status: 503, Failure: telemetry.FailureHTTP5xx}
			q.Gaps = new(telemetry.Gaps)
			q.Gaps.Add(int64(i) * 1e6)
		}
		r.Append(q)
	}
	if err := r.Close(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	if c.ClickHouse.Enabled() && r.Stats().Stored != requests {
		t.Fatalf("%+v", r.Stats())
	}
}

// testID is an id of version 7 that is the same in both logs.
func testID(ns int64, i int) [16]byte {
	id := telemetry.NewID(ns)
	copy(id[6:], []byte{0x70, 0, 0x80, 0, 0, 0, 0, 0, byte(i >> 8), byte(i)})
	return id
}

// makeTables makes those of c at address.
func makeTables(t *testing.T, address string, c *configs.Config) {
	t.Helper()
	conn, err := clickhouse.Dial(t.Context(), address, clickhouse.FromConfig(&c.ClickHouse))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	schema := clickhouse.SchemaOf(c)
	steps, err := conn.Pending(t.Context(), schema)
	if err == nil {
		err = conn.Apply(t.Context(), schema, steps, "test", func(clickhouse.Step) {})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// both returns the same log in files and in ClickHouse.
func both(t *testing.T) map[string]source {
	t.Helper()
	files := configs.Default()
	files.RequestLog.Dir, files.RequestLog.Bodies = t.TempDir(), "all"
	fill(t, files)
	s := chtest.Start(t)
	store := configs.Default()
	store.RequestLog.Dir, store.RequestLog.Bodies, store.ClickHouse.Address = t.TempDir(), "all", s.Native
	makeTables(t, s.Native, store)
	fill(t, store)
	sources := make(map[string]source)
	for name, c := range map[string]*configs.Config{"files": files, "clickhouse": store} {
		src, end, err := open(context.Background(), c, false, nil, func(text string) { t.Errorf("warned: %s", text) })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(end)
		sources[name] = src
	}
	return sources
}

func TestFilesAndClickHouseGiveTheSameAnswers(t *testing.T) {
	sources := both(t)
	midnight := time.Now().UTC().Truncate(24 * time.Hour)
	for _, c := range []struct {
		name string
		f    filter
		want int
	}{
		{"all", filter{}, 600},
		{"tenant", filter{Tenant: "t1"}, 300},
		{"model", filter{Model: "m2"}, 200},
		{"status", filter{Status: "429"}, 12},
		{"class", filter{Status: "4xx"}, 12},
		{"end", filter{End: "upstream_cut"}, 60},
		{"client's id", filter{RequestID: "mine-7"}, 1},
		{"provider's id", filter{RequestID: "req_7"}, 1},
		{"relay's id", filter{RequestID: string(telemetry.AppendID(nil, testID(midnight.Add(-time.Hour+264*time.Second).UnixNano(), 264)))}, 1},
		{"no such id", filter{RequestID: "it's"}, 0},
		{"from", filter{From: midnight.Add(-time.Hour + 500*time.Second)}, 100},
		{"to", filter{To: midnight.Add(-time.Hour + 100*time.Second), Key: "k1", Tenant: "t0"}, 50},
		{"trace", filter{Trace: "00000000000000000000000000000020"}, 1},
		{"long ttft", filter{TTFTOver: 590 * time.Millisecond}, 9},
		{"long duration", filter{DurationOver: 5 * time.Second}, 0},
		{"less long duration", filter{DurationOver: 4999 * time.Millisecond}, 600},
		{"long gap", filter{GapOver: 500 * time.Millisecond}, 3},
		{"upstream", filter{Upstream: "alpha", Model: "m0", End: "upstream_cut"}, 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			printed := make(map[string]string)
			for name, s := range sources {
				rows, err := s.newest(t.Context(), &c.f, 1000)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if len(rows) != c.want {
					t.Errorf("%s: %d rows, want %d", name, len(rows), c.want)
				}
				var b bytes.Buffer
				for _, asJSON := range []bool{true, false} {
					if err := printRows(&b, rows, asJSON); err != nil {
						t.Fatal(err)
					}
				}
				printed[name] = b.String()
			}
			if printed["files"] != printed["clickhouse"] {
				t.Errorf("files:\n%.600s\nclickhouse:\n%.600s", printed["files"], printed["clickhouse"])
			}
		})
	}
	for name, s := range sources {
		b, err := findBody(t.Context(), s, "mine-105")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var text bytes.Buffer
		if err := printBody(&text, b); err != nil {
			t.Fatal(err)
		}
		id := telemetry.AppendID(nil, b.ID)
		want := fmt.Sprintf("--- request of %s: 14 bytes\nask 105???[31m\n--- answer of %s: the first 11 of 5000 bytes\nline\nline\n", id, id)
		if text.String() != want || string(b.Request) != "ask 105\x00\xff\x1b[31m" || string(b.Answer) != "line\r\nline\n" || b.Tenant != "t1" {
			t.Errorf("%s: %q, want %q", name, text.String(), want)
		}
		if again, err := findBody(t.Context(), s, string(id)); err != nil || !bytes.Equal(again.Request, b.Request) {
			t.Errorf("%s: by the relay's id: %v", name, err)
		}
		for id, want := range map[string]string{"mine-106": "request_log.bodies says whose are kept", "mine-9999": "no request", "00000000-0000-7000-8000-000000000000": "no request"} {
			if _, err := findBody(t.Context(), s, id); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %s: %v", name, id, err)
			}
		}
	}
	last := make(map[string]string)
	for name, s := range sources {
		rows, err := s.newest(t.Context(), &filter{}, 3)
		if err != nil || len(rows) != 3 || rows[2].ClientRequestID != "mine-599" || rows[0].ClientRequestID != "mine-597" {
			t.Errorf("%s: the newest 3: %+v, %v", name, rows, err)
		}
		for _, f := range []filter{{}, {Status: "200"}} { // by the rollup, and by the rows
			groups, err := s.usage(t.Context(), &f, []string{"tenant", "model", "day"})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for i := range groups { // the two ways to take a quantile agree to 2 %
				if p := groups[i].TTFT50; p < 200 || p > 400 {
					t.Errorf("%s: p50 %v", name, p)
				}
				groups[i].TTFT50, groups[i].TTFT95, groups[i].ttft = 0, 0, sketch{}
			}
			last[name] += fmt.Sprintf("%+v\n", groups)
		}
	}
	if last["files"] != last["clickhouse"] || strings.Count(last["files"], "{By:") != 12 {
		t.Errorf("usage of files:\n%s\nof clickhouse:\n%s", last["files"], last["clickhouse"])
	}
}

// TestShardsWithoutAClusterAreReadTogether: what one server has and what the
// other has is one log.
func TestShardsWithoutAClusterAreReadTogether(t *testing.T) {
	a, b := chtest.Start(t), chtest.Start(t)
	c := configs.Default()
	c.RequestLog.Dir, c.RequestLog.Bodies = t.TempDir(), "all"
	for _, s := range []*chtest.Server{a, b} {
		c.ClickHouse.Shards = append(c.ClickHouse.Shards, []string{"127.0.0.1:1", s.Native}) // the first replica is down
		makeTables(t, s.Native, c)
	}
	fill(t, c)
	if a.Count("SELECT count() FROM relay.request_log") == 0 || b.Count("SELECT count() FROM relay.request_log") == 0 {
		t.Fatal("all rows are at one server")
	}
	var warned []string
	s, end, err := open(t.Context(), c, false, nil, func(text string) { warned = append(warned, text) })
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	for range 20 { // a short cut of the server was wrong now and then
		rows, err := s.newest(t.Context(), &filter{}, 10)
		if err != nil || len(rows) != 10 || rows[9].ClientRequestID != "mine-599" || rows[0].ClientRequestID != "mine-590" {
			t.Errorf("the newest 10: %d, %v: %+v", len(rows), err, rows)
		}
	}
	n := 0
	if err := s.scan(t.Context(), &filter{}, func(*requestlog.Row) error { n++; return nil }); err != nil || n != requests {
		t.Errorf("%d rows: %v", n, err)
	}
	groups, err := s.usage(t.Context(), &filter{}, []string{"tenant"})
	if err != nil || len(groups) != 2 || groups[0].Requests != 300 || groups[1].Requests != 300 || groups[0].Errors+groups[1].Errors != 72 || groups[0].TTFT50 != 0 {
		t.Errorf("%+v, %v", groups, err)
	}
	if len(warned) != 1 || !strings.Contains(warned[0], "clickhouse.cluster") {
		t.Errorf("warned %q", warned)
	}
	for _, id := range []string{"mine-5", "mine-105", "mine-205", "mine-305", "mine-405", "mine-505"} {
		if _, err := findBody(t.Context(), s, id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
}

func TestExportFormatsHoldTheSameRows(t *testing.T) {
	c := configs.Default()
	c.RequestLog.Dir = t.TempDir()
	fill(t, c)
	s, _, err := open(t.Context(), c, false, nil, func(text string) { t.Error(text) })
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, format := range []string{"jsonl", "csv", "parquet"} {
		if err := exportFile(t.Context(), s, &filter{}, format, filepath.Join(dir, "rows."+format)); err != nil {
			t.Fatal(err)
		}
	}
	read := func(format string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, "rows."+format))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	var fromJSON []record
	for line := range strings.Lines(string(read("jsonl"))) {
		var r record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		fromJSON = append(fromJSON, r)
	}
	fromParquet, err := parquet.Read[record](bytes.NewReader(read("parquet")), int64(len(read("parquet"))))
	if err != nil || len(fromParquet) != requests || len(fromJSON) != requests {
		t.Fatalf("%d rows in JSON, %d in Parquet: %v", len(fromJSON), len(fromParquet), err)
	}
	for i := range fromJSON {
		fromParquet[i].Time = fromParquet[i].Time.UTC()
		a, _ := json.Marshal(fromJSON[i])
		b, _ := json.Marshal(fromParquet[i])
		if !bytes.Equal(a, b) {
			t.Fatalf("row %d:\n%s\n%s", i, a, b)
		}
	}
	lines, err := csv.NewReader(bytes.NewReader(read("csv"))).ReadAll()
	if err != nil || len(lines) != requests+1 || lines[0][0] != "time" || lines[1][len(lines[1])-1] != "'=cmd|' /C calc'!A0" {
		t.Errorf("%d lines of CSV: %v: %q", len(lines), err, lines[1])
	}
}

// TestFollowPrintsEachNewRowOnceAcrossARotation: a file that is closed and
// renamed is not read again.
func TestFollowPrintsEachNewRowOnceAcrossARotation(t *testing.T) {
	c := configs.Default()
	c.RequestLog.Dir = t.TempDir()
	fill(t, c)
	s, _, err := open(t.Context(), c, false, nil, func(text string) { t.Error(text) })
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	next, err := s.follow(t.Context(), &filter{}, func(*requestlog.Row) error { seen++; return nil })
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		fill(t, c) // closes its file
		for range 2 {
			if err := next(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if seen != 2*requests {
		t.Errorf("%d rows, want %d", seen, 2*requests)
	}
}

func TestTimesAreReadAsPeopleWriteThem(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"90m": "2026-11-24T10:30:00Z", "7d": "2026-11-17T12:00:00Z", "2026-11-20": "2026-11-20T00:00:00Z", "2026-11-20T01:02:03+01:00": "2026-11-20T00:02:03Z",
	} {
		if got, err := parseTime(text, now); err != nil || got.UTC().Format(time.RFC3339) != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"yesterday", "-5m", "d", "99999999999999999999d"} {
		if _, err := parseTime(text, now); err == nil {
			t.Errorf("%s is taken for a time", text)
		}
	}
}
