package auth

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"streamrelay/auth/limits"
)

// state is what a relay writes down for its next run: what was spent and, with
// keys in Redis, the table, so that a restart while Redis is away goes on.
type state struct {
	At      time.Time // when it was written
	Proof   time.Time // until when Redis was heard of; zero: no Redis
	Marker  string    // of the store in Redis
	Seq     int64     // the last change that the table has
	Pepper  string    // pepperMark of the digests
	Relays  int64     // that shared the limits in Redis; 0: not known
	Spent   []limits.Spent
	Tenants []*Tenant
	Records []*Record
}

// stateHead is the first line of the file; a line a tenant and a line a record
// follow, and stateEnd last: half a file is none.
type stateHead struct {
	Format int            `json:"relay_keys_state"`
	At     time.Time      `json:"at"`
	Proof  *time.Time     `json:"proof,omitempty"`
	Marker string         `json:"marker,omitempty"`
	Seq    int64          `json:"seq,omitempty"`
	Pepper string         `json:"pepper,omitempty"`
	Relays int64          `json:"relays,omitempty"`
	Spent  []limits.Spent `json:"spent,omitempty"`
	Tables int            `json:"tenants"`
	Count  int            `json:"records"`
}

func (h *stateHead) state() *state {
	s := &state{At: h.At, Marker: h.Marker, Seq: h.Seq, Pepper: h.Pepper, Relays: h.Relays, Spent: h.Spent}
	if h.Proof != nil {
		s.Proof = *h.Proof
	}
	return s
}

const (
	stateFormat = 1
	stateEnd    = "end\n"
)

// writeState replaces the file, mode 0600. The caller has its lock.
func writeState(path string, s *state) error {
	if err := replaceFile(path, s.encode, nil); err != nil {
		return fmt.Errorf("write keys.state_file: %w", err)
	}
	return nil
}

func (s *state) encode(w io.Writer) error {
	// A bufio.Writer keeps the first error for Flush.
	b := bufio.NewWriterSize(w, 64<<10)
	line := func(v []byte) { _, _ = b.Write(append(v, '\n')) }
	line(mustJSON(stateHead{stateFormat, s.At, optionalTime(s.Proof), s.Marker, s.Seq, s.Pepper, s.Relays, s.Spent, len(s.Tenants), len(s.Records)}))
	for _, t := range s.Tenants {
		line(encodeTenant(t))
	}
	for _, r := range s.Records {
		line(encodeRecord(r))
	}
	_, _ = b.WriteString(stateEnd)
	return b.Flush()
}

var errState = errors.New("is broken or cut short; it is left alone and written anew")

// readState reads the file. One that is not there is an fs.ErrNotExist.
func readState(path string) (*state, error) {
	if path == "" {
		return nil, fs.ErrNotExist
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	s, err := decodeState(file)
	if err != nil {
		return nil, fmt.Errorf("keys.state_file %q: %w", path, err)
	}
	return s, nil
}

// readStateHead reads all of the file but tenants and records, which may be many.
func readStateHead(path string) (*state, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	line, err := bufio.NewReaderSize(file, 64<<10).ReadBytes('\n')
	var head stateHead
	if err != nil || json.Unmarshal(line, &head) != nil || head.Format != stateFormat {
		return nil, errState
	}
	return head.state(), nil
}

// decodeState reads what encode wrote, whole or not at all.
func decodeState(r io.Reader) (*state, error) {
	lines := bufio.NewReaderSize(r, 64<<10)
	next := func(v any) error {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return errState
		}
		if raw, ok := v.(*[]byte); ok {
			*raw = line
			return nil
		}
		if json.Unmarshal(line, v) != nil {
			return errState
		}
		return nil
	}
	var head stateHead
	if err := next(&head); err != nil || head.Format != stateFormat {
		return nil, errState
	}
	s := head.state()
	var row []byte
	for range head.Tables {
		if err := next(&row); err != nil {
			return nil, err
		}
		t, err := decodeTenant(row)
		if err != nil {
			return nil, errState
		}
		s.Tenants = append(s.Tenants, t)
	}
	for range head.Count {
		if err := next(&row); err != nil {
			return nil, err
		}
		r, err := decodeRecord(row)
		if err != nil {
			return nil, errState
		}
		s.Records = append(s.Records, r)
	}
	if err := next(&row); err != nil || string(row) != stateEnd {
		return nil, errState
	}
	return s, nil
}
