package watch

import (
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

const (
	// maxInflated bounds what is inflated of one answer: a bomb costs its
	// sender's stream its usage, and the relay less than a second.
	maxInflated = 256 << 20
	// maxWindow is the largest zstd window that HTTP allows (RFC 9659).
	maxWindow = 8 << 20
)

var errTooLarge = errors.New("inflated answer is too large")

// Inflate decompresses a copy of a compressed answer for a watcher, while the
// original bytes pass. What the provider flushed is seen within the Write that
// brought it. It belongs to one goroutine: the decoders, which want to pull,
// run in a coroutine that has control only inside Write and Close, so nothing is
// queued, nothing is copied, and the sink's results may be read between calls.
type Inflate struct {
	next func() (struct{}, bool)
	stop func()
	src  source
	err  error
	// Limit of inflated bytes; 0 means 256 MiB. It is an error to pass it.
	Limit int
}

// Start begins an answer with the given Content-Encoding. sink gets each piece
// as it is decompressed, with the time given to Write; the piece is valid until
// sink returns. Start returns false, and Inflate stays idle, when it knows no
// decoder for encoding.
func (z *Inflate) Start(encoding string, sink func(p []byte, now int64)) bool {
	z.Close()
	z.err = nil
	open := decoder(encoding)
	if open == nil {
		return false
	}
	z.next, z.stop = iter.Pull(func(yield func(struct{}) bool) {
		z.src.yield = yield
		z.err = z.run(encoding, open, sink)
	})
	return true
}

// Write decompresses p, the next bytes of the body, which came at time now. It
// takes processor time but never waits, and keeps nothing of p. After an error
// it does nothing; Close tells.
func (z *Inflate) Write(p []byte, now int64) {
	if z.next == nil || len(p) == 0 {
		return
	}
	z.src.in, z.src.now = p, now
	z.next()
	z.src.in = nil
}

// Close ends the body, hands what is left to the sink, and gives everything
// back; it must be called after Start. An error means that the sink did not see
// all of the answer, io.ErrUnexpectedEOF that the answer was cut short.
func (z *Inflate) Close() error {
	if z.stop != nil {
		z.stop()
		z.next, z.stop = nil, nil
		z.src = source{}
	}
	return z.err
}

// run is the coroutine.
func (z *Inflate) run(encoding string, open opener, sink func([]byte, int64)) error {
	r, err := guard(func() (io.ReadCloser, error) { return open(&z.src) })
	if err != nil {
		if z.src.read == 0 {
			return nil // an empty body is no error
		}
		return fmt.Errorf("inflate %s: %w", encoding, err)
	}
	defer r.Close()
	limit := z.Limit
	if limit == 0 {
		limit = maxInflated
	}
	buf := make([]byte, 16<<10)
	for total := 0; ; {
		n, err := guard(func() (int, error) { return r.Read(buf) })
		if total += n; total > limit {
			return fmt.Errorf("inflate %s: %w", encoding, errTooLarge)
		}
		if n > 0 {
			sink(buf[:n], z.src.now)
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("inflate %s: %w", encoding, err)
		}
	}
}

// guard turns a panic of a decoder, whose input is the provider's, into an error.
func guard[T any](f func() (T, error)) (v T, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("decoder panicked: %v", r)
		}
	}()
	return f()
}

type opener func(*source) (io.ReadCloser, error)

// decoder returns how to open encoding (RFC 9110 §8.4.1), nil if unknown.
func decoder(encoding string) opener {
	switch encoding {
	case "gzip", "x-gzip":
		return openGzip
	case "deflate":
		return openDeflate
	case "br":
		return func(s *source) (io.ReadCloser, error) { return io.NopCloser(brotli.NewReader(s)), nil }
	case "zstd":
		return func(s *source) (io.ReadCloser, error) {
			// Concurrency 1 decodes in Read, without goroutines.
			d, err := zstd.NewReader(s, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
				zstd.WithDecoderMaxWindow(maxWindow))
			if err != nil {
				return nil, err
			}
			return d.IOReadCloser(), nil
		}
	}
	return nil
}

// members reads the members of a gzip body one by one. gzip.Reader does so by
// itself, but keeps the end of one to itself until the next has begun.
type members struct {
	*gzip.Reader
	src *source
}

func openGzip(s *source) (io.ReadCloser, error) {
	r, err := gzip.NewReader(s)
	if err != nil {
		return nil, err
	}
	r.Multistream(false)
	return members{r, s}, nil
}

func (m members) Read(p []byte) (int, error) {
	for {
		n, err := m.Reader.Read(p)
		if n > 0 && err == io.EOF {
			err = nil // it will say so again
		}
		if n > 0 || err != io.EOF {
			return n, err
		}
		if err := m.src.fill(); err != nil {
			return 0, err
		}
		if m.Reset(m.src) != nil {
			return 0, io.EOF // what follows a whole body is padding
		}
		m.Multistream(false)
	}
}

// openDeflate tells zlib, which the name means, from the raw deflate that some
// servers send under it.
func openDeflate(s *source) (io.ReadCloser, error) {
	var head [2]byte
	if _, err := io.ReadFull(s, head[:]); err != nil {
		return nil, err
	}
	s.head = head[:]
	if head[0]&0x0f == 8 && (uint(head[0])<<8|uint(head[1]))%31 == 0 {
		return zlib.NewReader(s)
	}
	return flate.NewReader(s), nil
}

// source is what the decoders read from. When it is empty it gives control back
// to Write, and goes on at the next one. It has ReadByte so that no decoder puts
// a buffer of its own before it.
type source struct {
	yield func(struct{}) bool
	head  []byte // bytes that were looked at and put back
	in    []byte
	now   int64
	read  int64
	eof   bool
}

// fill waits until there are bytes.
func (s *source) fill() error {
	for len(s.head) == 0 && len(s.in) == 0 {
		if s.eof || !s.yield(struct{}{}) {
			s.eof = true
			return io.EOF
		}
	}
	return nil
}

func (s *source) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := s.fill(); err != nil {
		return 0, err
	}
	from := &s.in
	if len(s.head) > 0 {
		from = &s.head
	}
	n := copy(p, *from)
	*from = (*from)[n:]
	s.read += int64(n)
	return n, nil
}

func (s *source) ReadByte() (byte, error) {
	var b [1]byte
	_, err := s.Read(b[:])
	return b[0], err
}
