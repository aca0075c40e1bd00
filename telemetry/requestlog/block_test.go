package requestlog

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"streamrelay/configs"
	"streamrelay/telemetry"
	"streamrelay/telemetry/clickhouse"
	"streamrelay/telemetry/clickhouse/chtest"
	"streamrelay/telemetry/spool"
)

// fixedBatch returns a batch of rows that are the same in every run.
func fixedBatch(n int) *Batch {
	list := requests(n)
	for i, q := range list {
		q.ID = [16]byte{0x01, 0x9a, 0xb2, 0xc3, 0xd4, 0xe5, 0x70, 0x01, 0x80, 0xff, 1, 2, 3, 4, 5, byte(i)}
		q.RequestID = telemetry.AppendID(nil, q.ID)
		if i == 1 {
			q.RequestID = []byte("mine")
		}
	}
	return batchOf(list)
}

func TestBlockBytes(t *testing.T) {
	var native proto.Buffer
	if err := encode(&native, fixedBatch(3)); err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "block.hex")
	got := hex.Dump(native.Buf)
	if os.Getenv("UPDATE_GOLDEN") == "1" {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the block is not %s any more; got\n%s", golden, got)
	}
}

// undump reads what hex.Dump wrote.
func undump(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var data []byte
	for line := range strings.Lines(string(text)) {
		fields, _, _ := strings.Cut(line[8:], "|")
		b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(fields), " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		data = append(data, b...)
	}
	return data
}

// TestBlocksOfEarlierVersionsAreReadAndStored: those of files that were written
// before there were tries and traces.
func TestBlocksOfEarlierVersionsAreReadAndStored(t *testing.T) {
	var old, now Block
	if err := old.Decode(undump(t, "testdata/block.without-tries.hex")); err != nil {
		t.Fatal(err)
	}
	if err := now.Decode(undump(t, "testdata/block.hex")); err != nil {
		t.Fatal(err)
	}
	var was, is Row
	for i := range 3 {
		old.Row(i, &was)
		now.Row(i, &is)
		is.Tries, is.TraceID, is.ParentSpanID, is.Attempts = nil, "", "", 1
		if !reflect.DeepEqual(was, is) {
			t.Errorf("row %d: %+v, want %+v", i, was, is)
		}
	}
	s, o := store(t)
	conn, err := clickhouse.Dial(t.Context(), s.Native, clickhouse.FromConfig(&o.ClickHouse))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	table, err := conn.Describe(t.Context(), "request_log")
	if err != nil {
		t.Fatal(err)
	}
	for token, b := range map[string]*Block{"old": &old, "now": &now} {
		if err := conn.Insert(t.Context(), table, b.Input(), token); err != nil {
			t.Fatalf("%s: %v", token, err)
		}
	}
	got := s.Query("SELECT tries.upstream, tries.credential, tries.status, tries.failure, trace_id, parent_span_id, count() FROM relay.request_log GROUP BY ALL ORDER BY 7")
	want := "['alpha','beta']\t['1','']\t[503,0]\t['http_5xx','connect']\t0af7651916cd43dd8448eb211c80319c\tb7ad6b7169203331\t1\n[]\t[]\t[]\t[]\t\t\t5"
	if got != want {
		t.Errorf("the table has\n%s\nwant\n%s", got, want)
	}
	if got := s.Query("SELECT tries.upstream, tries.status FROM relay.request_log ARRAY JOIN tries WHERE tries.failure = 'connect'"); got != "beta\t0" {
		t.Errorf("attempts as rows: %s", got)
	}
}

func TestRowsComeBackAsTheyWereAppended(t *testing.T) {
	b := fixedBatch(100)
	block, err := copyOf(b)
	if err != nil {
		t.Fatal(err)
	}
	again := NewBatch()
	var row Row
	for i := range block.Rows() {
		block.Row(i, &row)
		again.Append(&row)
	}
	twice, err := copyOf(again)
	if err != nil {
		t.Fatal(err)
	}
	var first, second Row
	for i := range block.Rows() {
		block.Row(i, &first)
		twice.Row(i, &second)
		if !reflect.DeepEqual(first, second) {
			t.Fatalf("row %d: %+v, then %+v", i, first, second)
		}
	}
	block.Row(7, &first)
	want := Row{
		ID: first.ID, Start: 1795521600007, Instance: "relay-1", Tenant: "globex", KeyID: "k2", Method: "POST", Endpoint: "chat_completions",
		Model: "m4", Upstream: "beta", Credential: "1", Status: 200, UpstreamStatus: 200, EndReason: "completed", Stream: true, Attempts: 3,
		UsageSource: telemetry.UsageProvider, Input: 12, Output: 7, Cached: 4,
		Duration: 3200000, UpstreamHead: 90000, FirstEvent: 95000, TTFT: 107000, Overhead: 80, GapP50: 20000, GapMax: 3000000,
		Events: 4, ContentEvents: 3, BytesIn: 120, BytesOut: 4096, UserAgent: "OpenAI/Python 1.2.3",
		ClientIP: [16]byte{10: 0xff, 11: 0xff, 12: 192, 14: 2, 15: 7},
		Tries:    []Try{{"alpha", "1", 503, "http_5xx"}, {"beta", "", 0, "connect"}},
		TraceID:  "0af7651916cd43dd8448eb211c80319c", ParentSpanID: "b7ad6b7169203331",
	}
	if !reflect.DeepEqual(first, want) {
		t.Errorf("got  %+v\nwant %+v", first, want)
	}
}

func TestClientsCannotGrowAColumnAndTheirTextIsCut(t *testing.T) {
	s := unsealed(1)
	b := NewBatch()
	for i := range 3000 {
		q := request(0)
		q.Model, q.UpstreamStatus = fmt.Appendf(nil, "invented-%d%s", i, strings.Repeat("x", 300)), 404
		q.UserAgent = fmt.Appendf(nil, "agent-%d", i)
		q.Tenant, q.KeyID, q.Error = bytes.Repeat([]byte("t"), 300), strings.Repeat("k", 300), strings.Repeat("e", 300)
		row := s.rowOf(q)
		if row.Model != "other" || len(row.ModelRequested) != maxText || len(row.Tenant) != maxTenant || len(row.KeyID) != maxText || len(row.Error) != maxText {
			t.Fatalf("%+v", row)
		}
		b.Append(&row)
	}
	if len(b.model.values) > 3 || len(b.userAgent.values) > 1025 {
		t.Errorf("%d models, %d user agents in the dictionaries", len(b.model.values), len(b.userAgent.values))
	}
	q := request(0)
	q.Model = []byte("found")
	if row := s.rowOf(q); row.Model != "found" {
		t.Error("a model that an upstream answered is not known")
	}
	q.UpstreamStatus = 404
	if row := s.rowOf(q); row.Model != "found" {
		t.Error("it is forgotten")
	}
}

func TestUnknownPriceOrUsageIsUnknownCost(t *testing.T) {
	s := unsealed(1)
	for _, c := range []struct {
		name, model string
		rewritten   string
		upstream    int
		usage       telemetry.UsageSource
		cost        int64
		known       bool
	}{
		{"cached tokens within the input", "m1", "", 0, telemetry.UsageProvider, 8*500 + 4*50 + 10*1500, true},
		{"cached tokens beside the input", "m1", "", 1, telemetry.UsageProvider, 12*500 + 4*50 + 10*1500, true},
		{"no price", "m2", "", 0, telemetry.UsageProvider, 0, false},
		{"no usage", "m1", "", 0, telemetry.UsageUnknown, 0, false},
		{"an alias of a model with a price", "smart", "m1", 0, telemetry.UsageProvider, 8*500 + 4*50 + 10*1500, true},
		{"a price of the alias", "m1", "m2", 0, telemetry.UsageProvider, 0, false},
	} {
		q := request(10)
		q.Model, q.UpstreamModel, q.Upstream, q.UsageSource = []byte(c.model), []byte(c.rewritten), c.upstream, c.usage
		q.Usage = telemetry.Usage{Input: 12, Output: 10, Cached: 4, CacheWrite: -1, Reasoning: -1}
		if row := s.rowOf(q); row.Cost != c.cost || row.CostKnown != c.known || row.Model != c.model && row.ModelRequested != c.model {
			t.Errorf("%s: %d, %t, %q %q", c.name, row.Cost, row.CostKnown, row.Model, row.ModelRequested)
		}
	}
}

func TestAppendAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("allocations cannot be counted under the race detector")
	}
	r := unsealed(2)
	list := requests(1024)
	i := 0
	one := func() { r.add(list[i%len(list)]); r.reuse(); i++ }
	for range 20_000 {
		one()
	}
	if n := testing.AllocsPerRun(30_000, one); n != 0 { // over several blocks
		t.Errorf("%v allocations an append", n)
	}
	if n := r.dropped.Load(); n != 0 {
		t.Errorf("%d rows dropped", n)
	}
}

// TestMakingColumnsAllocatesNothingOnceValuesAreKnown: it is the sealer's, and
// it is the same CPU.
func TestMakingColumnsAllocatesNothingOnceValuesAreKnown(t *testing.T) {
	if raceEnabled {
		t.Skip("allocations cannot be counted under the race detector")
	}
	s := unsealed(1)
	list := requests(1024)
	block := func() {
		for i := range defaultBlockRows {
			s.add(list[i%len(list)])
		}
		for b := s.take(math.MaxInt64); b != nil; b = s.take(math.MaxInt64) {
			s.recycle(b)
		}
	}
	block()
	if n := testing.AllocsPerRun(5, block); n > 20 { // of a block, not of a row
		t.Errorf("%v allocations a block", n)
	}
}

func TestARowThatFindsNoRoomIsCountedAndDoesNotWait(t *testing.T) {
	r := unsealed(1)
	q := request(0)
	for range 10*recordRows + 7 { // nobody seals
		r.add(q)
	}
	taken, dropped := r.appended(), r.dropped.Load()
	if taken+dropped != 10*recordRows+7 || dropped < 7 || taken < 9*recordRows {
		t.Errorf("%d appended, %d dropped", taken, dropped)
	}
	rows := uint64(0)
	for b := r.take(math.MaxInt64); b != nil; b = r.take(math.MaxInt64) {
		rows += uint64(b.Rows())
		r.recycle(b)
	}
	if rows != taken {
		t.Errorf("%d rows in blocks, %d appended", rows, taken)
	}
	if r.add(q); r.appended() != taken+1 {
		t.Error("there is no room again")
	}
}

// TestWhatWasAppendedBeforeAReloadKeepsItsNames: a credential that moves to
// another place in the list does not rename the rows before.
func TestWhatWasAppendedBeforeAReloadKeepsItsNames(t *testing.T) {
	r := &Recorder{o: options(), rows: unsealed(1)}
	q := request(0)
	r.rows.add(q)
	r.SetUpstreams([]int{0}, []Upstream{{Name: "gamma", Credentials: []string{"blue"}}})
	r.rows.add(q)
	b, err := copyOf(r.rows.take(math.MaxInt64))
	if err != nil || b.Rows() != 2 {
		t.Fatal(b.Rows(), err)
	}
	var row Row
	var got []string
	for i := range 2 {
		b.Row(i, &row)
		got = append(got, row.Upstream+"/"+row.Credential)
	}
	if fmt.Sprint(got) != "[alpha/1 gamma/blue]" {
		t.Errorf("%v", got)
	}
}

// TestTheEngineReadsWhatRecoveryKept: a file that was cut and flipped, after a
// restart, as ClickHouse's file() sees it.
func TestTheEngineReadsWhatRecoveryKept(t *testing.T) {
	s := chtest.Start(t)
	dir := t.TempDir()
	o := options()
	o.Files = configs.RequestLog{Dir: dir, MaxBytes: configs.GiB, Durability: "spool", Fsync: "never"}
	o.BlockRows, o.Interval = 100, 20*time.Millisecond
	r := New(o)
	var want sums
	recordAll(r, &want, 0, 3000)
	eventually(t, "the blocks are sealed", func() bool { return r.Stats().Sealed == 3000 })
	files, err := spool.Files(dir)
	if err != nil || len(files) != 1 || !files[0].Open {
		t.Fatalf("%+v, %v", files, err)
	}
	data, err := os.ReadFile(files[0].Path)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(0); err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir() // as a kill would have left it, and a disk that flips a bit
	place := filepath.Join(dir, "spool", "0")
	if err := os.MkdirAll(place, 0o700); err != nil {
		t.Fatal(err)
	}
	data = data[:len(data)-10]
	data[len(data)/2] ^= 4
	if err := os.WriteFile(filepath.Join(place, filepath.Base(files[0].Path)), data, 0o600); err != nil {
		t.Fatal(err)
	}
	o.Files.Dir = dir
	if err := New(o).Close(0); err != nil {
		t.Fatal(err)
	}
	got := s.Count("SELECT count() FROM file('" + dir + "/dt=*/*.native.zst', 'Native')")
	if got < 2800 || got >= 3000 {
		t.Errorf("the engine reads %d rows of 3000, where two blocks of at most 100 were damaged", got)
	}
	if sum := s.Query("SELECT uniqExact(id), countIf(tenant NOT IN ('acme', 'globex', 'initech')), min(input_tokens) FROM file('" + dir + "/dt=*/*.native.zst', 'Native')"); !strings.HasPrefix(sum, fmt.Sprintf("%d\t0\t", got)) {
		t.Errorf("the engine reads %s", sum)
	}
}

// TestPackedBlocksAreReadByTheEngine has the reference zstd library read what
// spool.Pack made, and takes plain files to compare with.
func TestPackedBlocksAreReadByTheEngine(t *testing.T) {
	s := chtest.Start(t)
	for name, rows := range map[string][]*telemetry.Request{"alike": requests(3000), "everyday": everyday(9000), "few": requests(2)} {
		var native proto.Buffer
		parts, err := encodeParts(&native, batchOf(rows), nil)
		if err != nil {
			t.Fatal(err)
		}
		packed := spool.Pack(nil, native.Buf, parts)
		if len(rows) > 2 && len(packed) > len(native.Buf)/2 {
			t.Errorf("%s: %d bytes of %d", name, len(packed), len(native.Buf))
		}
		dir := t.TempDir()
		var sums []string
		for file, data := range map[string][]byte{"plain.native": native.Buf, "packed.native.zst": packed} {
			path := filepath.Join(dir, file)
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			sums = append(sums, s.Query("SELECT count(), uniqExact(id), sum(cityHash64(*)) FROM file('"+path+"', 'Native')"))
		}
		if sums[0] != sums[1] || !strings.HasPrefix(sums[0], fmt.Sprintf("%d\t%[1]d\t", len(rows))) {
			t.Errorf("%s: %q", name, sums)
		}
	}
}

func FuzzDecode(f *testing.F) {
	var native proto.Buffer
	if err := encode(&native, fixedBatch(3)); err != nil {
		f.Fatal(err)
	}
	f.Add(native.Buf)
	f.Add(native.Buf[:100])
	bodies := newBodyBatch(1, 100)
	bodies.add(&Body{ID: [16]byte{1}, Start: 1, Tenant: "acme", Request: []byte("ask\x00\xff"), Answer: []byte("answer"), AnswerBytes: 100})
	native = proto.Buffer{}
	if err := encode(&native, bodies); err != nil {
		f.Fatal(err)
	}
	f.Add(native.Buf)
	f.Fuzz(func(t *testing.T, data []byte) {
		var b Block
		if b.Decode(data) != nil {
			return
		}
		var row Row
		var body Body
		for i := range b.Rows() {
			b.Row(i, &row)
			b.Body(i, &body)
		}
		if _, _, _, err := b.ids(); err == nil {
			requestLog.pick(&b, nil)
			requestBodies.pick(&b, nil)
		}
	})
}
