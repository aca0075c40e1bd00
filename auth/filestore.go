package auth

import (
	"errors"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// pollInterval is how often the file's stamp is read; with settlePolls more it
// keeps a change's way into the table well under the second that is promised.
const (
	pollInterval = 200 * time.Millisecond
	settlePolls  = 2
)

// FileOptions is what OpenFile may be told.
type FileOptions struct {
	Log    zerolog.Logger // says what was loaded, and what is wrong; the zero Logger says nothing
	Pepper []byte         // put in front of each key before it is hashed; nil: none

	tenants func([]*Tenant) // is given the tenants of the file; nil: nobody
}

// FileStore keeps a Table equal to a keys file while the relay runs. It only
// reads the file; the commands write it, from processes of their own.
type FileStore struct {
	path  string
	log   zerolog.Logger
	table *Table

	pepper  []byte
	tenants func([]*Tenant)

	// mu is held over reading the file and putting it into the table, so that
	// what was read earlier is never put in later.
	mu       sync.Mutex
	seen     stamp  // what the table, or the last complaint, is about
	settling stamp  // a change that may still be going on
	waited   int    // polls that it was given to settle
	said     string // the last complaint, "" if the last load was good

	stop    chan struct{}
	stopped chan struct{}
}

// OpenFile reads the keys file and begins to watch it. A file that is not
// there is an empty table, and the log says so; one that is broken is a
// *FormatError. The caller closes the store.
func OpenFile(path string, o FileOptions) (*FileStore, error) {
	s := &FileStore{
		path: path, log: o.Log, table: NewTable(slices.Clone(o.Pepper)), pepper: o.Pepper, tenants: o.tenants,
		stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	switch err := s.loadLocked(); {
	case errors.Is(err, fs.ErrNotExist):
		s.log.Warn().Str("file", path).Msg(`keys file does not exist: every key is refused until "relay keys create" writes it`)
	case err != nil:
		return nil, err
	default:
		s.log.Info().Str("file", path).Int("keys", s.table.Len()).Msg("keys loaded")
	}
	go s.watch()
	return s, nil
}

// Table returns the table that follows the file. It outlives Close, after
// which it no longer changes.
func (s *FileStore) Table() *Table { return s.table }

// Close ends the watching and waits for it. It is called once.
func (s *FileStore) Close() {
	close(s.stop)
	<-s.stopped
}

func (s *FileStore) watch() {
	defer close(s.stopped)
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-ticker.C:
			s.poll()
		}
	}
}

// poll takes a change up once the file has kept still for an interval. Editors
// write in place or put a new file under the name before they fill it; half a
// file is often a valid one with fewer keys, which would refuse good keys for
// a moment. The wait is bounded, or a file that is written all the time, by
// many small commands, would never be taken up.
func (s *FileStore) poll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, err := stampOf(s.path)
	switch {
	case err != nil: // reading it fails in the same way, and says so
	case now == s.seen:
		s.waited = 0
		return
	case now != s.settling && s.waited < settlePolls:
		s.settling = now
		s.waited++
		return
	}
	s.waited = 0
	s.reloadLocked() // it has said what was wrong
}

// reloadLocked is loadLocked with its outcome in the log: what is wrong is
// said once per change of the file.
func (s *FileStore) reloadLocked() error {
	before, said := s.seen, s.said
	err := s.loadLocked()
	if errors.Is(err, fs.ErrNotExist) {
		if s.table.Len() == 0 {
			return nil // as at the start
		}
		err = errGone
	}
	s.said = ""
	if err != nil {
		s.said = err.Error()
	}
	if s.seen == before && s.said == said {
		return err
	}
	if err != nil {
		s.log.Error().Err(err).Str("file", s.path).Int("keys", s.table.Len()).Msg("keys file cannot be used: the keys of before stay in force")
		return err
	}
	s.log.Info().Str("file", s.path).Int("keys", s.table.Len()).Msg("keys reloaded")
	return nil
}

// loadLocked reads the file into the table. On an error the table is as it was.
func (s *FileStore) loadLocked() error {
	var err error
	if s.seen, err = stampOf(s.path); err != nil {
		return err
	}
	data, info, err := readWhole(s.path)
	if info != nil {
		s.seen = infoStamp(info) // of the very file that was read
	}
	if err != nil {
		return err
	}
	f, err := s.check(s.path, data)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o007 != 0 {
		s.log.Warn().Str("file", s.path).Msg("keys file is open to every user of this machine: chmod 600")
	}
	s.take(f)
	return nil
}

// check parses a file and refuses one that would lock everybody out.
func (s *FileStore) check(path string, data []byte) (*keysFile, error) {
	f, err := parseKeys(path, data)
	if err != nil {
		return nil, err
	}
	if f.doc == nil && s.table.Len() > 0 {
		return nil, errEmptied
	}
	return f, f.checkPepper(s.pepper)
}

func (s *FileStore) take(f *keysFile) {
	if s.tenants != nil {
		s.tenants(f.tenants)
	}
	s.table.Replace(f.records)
}

// try reads another file as follow would take it.
func (s *FileStore) try(path string) (*keysFile, stamp, error) {
	data, info, err := readWhole(path)
	if err != nil {
		return nil, stamp{}, err
	}
	f, err := s.check(path, data)
	return f, infoStamp(info), err
}

// follow follows another file from now on, beginning with what try returned.
func (s *FileStore) follow(path string, f *keysFile, seen stamp) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.path, s.seen, s.settling, s.waited, s.said = path, seen, stamp{}, 0, ""
	s.take(f)
	s.log.Info().Str("file", path).Int("keys", s.table.Len()).Msg("keys are read from another file")
}

// What must not lock everybody out: an empty file is what a full disk or a cut
// write leaves, and a file may be moved away and back.
var (
	errEmptied = errors.New(`file is empty where there were keys; write "keys: []" if none is meant`)
	errGone    = errors.New("file is gone")
)
