package requestlog

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/google/uuid"

	"streamrelay/configs"
	"streamrelay/telemetry"
)

// KeepsBodies decides, once an exchange has ended, whether the bodies that were
// captured of it are kept: with request_log.bodies: errors those of requests
// that failed, which are the ones that `relay logs usage` counts as errors, and
// any whose status says so.
func KeepsBodies(l *configs.RequestLog, r *telemetry.Request) bool {
	if l.Bodies == "errors" {
		well := r.Status < 400 && r.End == telemetry.Completed || r.End == telemetry.ClientGone
		return !well
	}
	return l.WithBodies()
}

// Body is what was said in one exchange: the first bytes of the request's body
// and of the answer's, as they were, and how long both were.
type Body struct {
	ID                        [16]byte // the row's
	Start                     int64    // the row's, Unix milliseconds
	Tenant                    string
	Request, Answer           []byte
	RequestBytes, AnswerBytes uint64
}

// RequestCut and AnswerCut say that there was more than is kept.
func (b *Body) RequestCut() bool { return b.RequestBytes > uint64(len(b.Request)) }
func (b *Body) AnswerCut() bool  { return b.AnswerBytes > uint64(len(b.Answer)) }

const (
	// bodyBatches are all there are: one is filled, one is sealed, the others are
	// with senders. What comes when none is free is dropped and counted.
	bodyBatches = 6
	// A batch is full when it has so many rows, or when what comes does not fit.
	bodyRows  = 1000
	bodyBytes = 2 << 20 // of requests, and of answers
	bodyMax   = 1 << 20 // the highest request_log.body_max (package configs)
)

// bodyBatch is a batch of bodies. Requests append to it, so that its memory is
// made at once; nothing of it is in use before it is written to.
type bodyBatch struct {
	id                        proto.ColUUID
	ts                        millis
	tenant                    *dict
	request, answer           proto.ColStr
	requestBytes, answerBytes proto.ColUInt64
	requestIsCut, answerIsCut proto.ColBool
	list                      proto.Input
}

func newBodyBatch(rows, bytes int) *bodyBatch {
	text := func() proto.ColStr {
		return proto.ColStr{Buf: make([]byte, 0, bytes), Pos: make([]proto.Position, 0, rows)}
	}
	u64 := func() proto.ColUInt64 { return make(proto.ColUInt64, 0, rows) }
	b := &bodyBatch{
		id: make(proto.ColUUID, 0, rows), ts: millis{make(proto.ColInt64, 0, rows)}, tenant: newDict(maxDict),
		request: text(), answer: text(), requestBytes: u64(), answerBytes: u64(),
		requestIsCut: make(proto.ColBool, 0, rows), answerIsCut: make(proto.ColBool, 0, rows),
	}
	b.tenant.keys = make([]uint16, 0, rows)
	b.list = proto.Input{
		{Name: "id", Data: &b.id}, {Name: "ts", Data: &b.ts}, {Name: "tenant", Data: b.tenant},
		{Name: "request", Data: &b.request}, {Name: "answer", Data: &b.answer},
		{Name: "request_bytes", Data: &b.requestBytes}, {Name: "answer_bytes", Data: &b.answerBytes},
		{Name: "request_cut", Data: &b.requestIsCut}, {Name: "answer_cut", Data: &b.answerIsCut},
	}
	return b
}

// Rows implements batch.
func (b *bodyBatch) Rows() int { return len(b.id) }

// Input implements batch.
func (b *bodyBatch) Input() proto.Input { return b.list }

// Reset implements batch.
func (b *bodyBatch) Reset() { b.list.Reset() }

// fits reports whether there is room for x.
func (b *bodyBatch) fits(x *Body) bool {
	return len(b.id) < bodyRows && cap(b.request.Buf)-len(b.request.Buf) >= len(x.Request) && cap(b.answer.Buf)-len(b.answer.Buf) >= len(x.Answer)
}

// add appends x, copying it.
func (b *bodyBatch) add(x *Body) {
	b.id = append(b.id, x.ID)
	b.ts.ColInt64 = append(b.ts.ColInt64, x.Start)
	b.tenant.add(x.Tenant)
	b.request.AppendBytes(x.Request)
	b.answer.AppendBytes(x.Answer)
	b.requestBytes = append(b.requestBytes, x.RequestBytes)
	b.answerBytes = append(b.answerBytes, x.AnswerBytes)
	b.requestIsCut = append(b.requestIsCut, x.RequestCut())
	b.answerIsCut = append(b.answerIsCut, x.AnswerCut())
}

// requestBodies is the kind of bodies. Small blocks are not put together: they
// are not small.
var requestBodies = kind{
	table: "request_bodies", prefix: filePrefix("request_bodies"), folder: BodyFolder, counts: "relay_log_bodies",
	columns: BodyColumns(),
	pick: func(b *Block, want func(id uuid.UUID) bool) batch {
		out := newBodyBatch(0, 0)
		var x Body
		for i := range b.Rows() {
			if b.Body(i, &x); want == nil || want(x.ID) {
				out.add(&x)
			}
		}
		return out
	},
}

// BodyFolder is where the files of bodies are below request_log.dir.
const BodyFolder = "bodies"

// BodyColumns are the names of the columns that bodies are kept in.
func BodyColumns() []string {
	var names []string
	for _, c := range newBodyBatch(0, 0).list {
		names = append(names, c.Name)
	}
	return names
}

// Body fills x with the i-th row of a block of bodies. Its bytes are the
// block's memory.
func (b *Block) Body(i int, x *Body) {
	*x = Body{}
	for _, c := range b.columns {
		switch col := data(c).(type) {
		case *proto.ColUUID:
			x.ID = (*col)[i]
		case *proto.ColDateTime64:
			x.Start = int64(col.Data[i])
		case *proto.ColLowCardinality[string]:
			x.Tenant = col.Row(i)
		case *proto.ColStr:
			switch c.Name {
			case "request":
				x.Request = col.RowBytes(i)
			case "answer":
				x.Answer = col.RowBytes(i)
			}
		case *proto.ColUInt64:
			switch c.Name {
			case "request_bytes":
				x.RequestBytes = (*col)[i]
			case "answer_bytes":
				x.AnswerBytes = (*col)[i]
			}
		}
	}
}

// bodies is the source of bodies. Few requests have one, so that one lock does.
type bodies struct {
	files   atomic.Pointer[configs.RequestLog] // which are kept
	free    pool[bodyBatch]
	full    chan *bodyBatch // has room for all there are
	came    chan struct{}   // has room for one: full has something
	dropped *atomic.Uint64

	// mu guards what follows, for as long as it takes to copy two bodies.
	mu    sync.Mutex
	cur   *bodyBatch
	first int64  // Unix milliseconds: when the first body in cur came
	n     uint64 // appended, ever
	body  Body   // scratch
}

func newBodies(files *configs.RequestLog, dropped *atomic.Uint64) *bodies {
	s := &bodies{full: make(chan *bodyBatch, bodyBatches), came: make(chan struct{}, 1), dropped: dropped}
	s.files.Store(files)
	for range bodyBatches {
		s.free.put(newBodyBatch(bodyRows, bodyBytes))
	}
	return s
}

// add keeps the bodies of q where they are wanted. It waits for no I/O; bodies
// that find no room are counted.
func (s *bodies) add(q *telemetry.Request) {
	if !KeepsBodies(s.files.Load(), q) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	x := &s.body
	x.ID, x.Start, x.Tenant = q.ID, q.Start/1e6, text(q.Tenant, maxTenant)
	x.Request, x.Answer = q.RequestBody[:min(len(q.RequestBody), bodyMax)], q.AnswerBody[:min(len(q.AnswerBody), bodyMax)]
	x.RequestBytes, x.AnswerBytes = max(count(q.BytesIn), uint64(len(x.Request))), max(count(q.BytesOut), uint64(len(x.Answer)))
	if s.cur != nil && !s.cur.fits(x) {
		s.full <- s.cur // has room for every batch
		s.cur = nil
		select {
		case s.came <- struct{}{}:
		default:
		}
	}
	if s.cur == nil {
		if s.cur = s.free.get(); s.cur == nil {
			s.dropped.Add(1)
			return
		}
		s.first = time.Now().UnixMilli()
	}
	s.n++
	s.cur.add(x)
}

func (s *bodies) ready() <-chan struct{} { return s.came }

func (s *bodies) spare() bool { return s.free.len() > 0 }

func (s *bodies) room() bool { return s.spare() }

func (s *bodies) recycle(b batch) {
	b.Reset()
	s.free.put(b.(*bodyBatch))
}

func (s *bodies) appended() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

func (s *bodies) take(since int64) batch {
	select {
	case b := <-s.full:
		return b
	default:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.cur
	if b == nil || b.Rows() == 0 || s.first > since {
		return nil
	}
	s.cur = nil
	return b
}
