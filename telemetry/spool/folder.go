package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// When blocks are forced to the disk. A kill needs no sync; a power cut does.
const (
	FsyncInterval = "interval" // each 10 seconds while there is something new, and when a file is closed
	FsyncBlock    = "block"    // before Append returns
	FsyncNever    = "never"
)

const (
	spoolFolder = "spool"
	ending      = ".native.zst"
	openEnding  = ending + ".open"
	ackEnding   = ".ack"

	syncEvery = 10 * time.Second
	maxSlots  = 1000
)

// Options say how a folder is kept.
type Options struct {
	Prefix string // of file names: table and schema version, such as request_log.v1
	Boot   string // names this run of the process; sorts by time
	// Store: nobody takes the blocks away. Closed files go to dt=YYYY-MM-DD/
	// below the root and stay until MaxBytes or MaxAge.
	Store    bool
	MaxBytes int64         // of the blocks kept; the oldest files go first
	MaxAge   time.Duration // 0: none
	Fsync    string
	// A file is closed at FileBytes (0: 64 MiB) or FileAge (0: 10 s; in a
	// store 1 h, and at midnight UTC).
	FileBytes int64
	FileAge   time.Duration
	Warn      func(text string) // what was lost or cannot be done; nil: nobody
	Now       func() time.Time  // nil: time.Now
}

// Folder is one process's part of the log's folder: root/spool/N, where N is
// the first number that no other process holds by its lock. What a dead
// process left in it, or in another N, is taken over. Append, Tick and Close
// belong to one goroutine; the other methods to any.
type Folder struct {
	o    Options
	root string
	dir  string
	lock *os.File

	dropped  [numDropReasons]atomic.Uint64
	bytes    atomic.Int64
	nFiles   atomic.Int64
	waiting  atomic.Int64 // rows not acknowledged
	oldest   atomic.Int64 // Unix milliseconds; 0: nothing waits
	warnedAt time.Time

	// mu guards what follows. It is held during small writes: no request
	// waits for it.
	mu       sync.Mutex
	files    []*file // oldest first; the active one, where there is one, is last
	active   *file
	seq      uint64
	nFile    int
	synced   time.Time
	dirty    bool
	buf      []byte
	closed   bool
	adoptDue time.Time
	beside   int64 // bytes of the root that prune found beside the spools and left
	pruned   time.Time
}

// DropReason says why rows of sealed blocks were given up.
type DropReason int

// The reasons.
const (
	DropFull    DropReason = iota // the oldest files, for MaxBytes
	DropAge                       // files older than MaxAge
	DropDamaged                   // bytes that fail their checksum
	numDropReasons
)

// String names the reason as in metrics.
func (r DropReason) String() string { return [...]string{"spool_full", "spool_age", "damaged"}[r] }

// DropReasons are all of them.
func DropReasons() []DropReason { return []DropReason{DropFull, DropAge, DropDamaged} }

// ErrFull says that not even dropping the oldest files makes room.
var ErrFull = errors.New("the spool is full")

// file is one file of the folder.
type file struct {
	path    string   // as it is named now
	base    string   // without endings
	f       *os.File // of the active file
	ack     *os.File // opened with the first acknowledgement
	size    int64
	opened  time.Time
	blocks  []*Block
	head    int // of blocks; what stands before it is done
	unacked int
	gone    bool
	store   bool // begun as the log's: it goes to a day's folder, and nobody takes its blocks
}

// first returns the first block that is not done, nil where all are.
func (f *file) first() *Block {
	for f.head < len(f.blocks) && f.blocks[f.head].state == stateDone {
		f.head++
	}
	if f.head == len(f.blocks) {
		return nil
	}
	return f.blocks[f.head]
}

// Block is one block in a folder.
type Block struct {
	Header
	Doubtful bool // it may have been sent already: by an earlier process, or by whoever returned it
	file     *file
	off      int64 // of the zstd frame
	state    state
}

type state uint8

const (
	stateWaiting state = iota // in a file only
	stateTaken                // with somebody who delivers it
	stateDone                 // acknowledged or given up
)

// Open takes a place in root, which it makes, and recovers what is there.
func Open(root string, o Options) (*Folder, error) {
	s := &Folder{o: o.complete(), root: root}
	if err := s.takePlace(); err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	if err := s.inherit(s.dir); err != nil {
		_ = s.lock.Close()
		return nil, fmt.Errorf("open spool: %w", err)
	}
	s.adopt()
	s.publish()
	return s, nil
}

// complete puts in the defaults.
func (o Options) complete() Options {
	if o.FileBytes == 0 {
		o.FileBytes = 64 << 20
	}
	if o.FileAge == 0 {
		o.FileAge = 10 * time.Second
		if o.Store {
			o.FileAge = time.Hour
		}
	}
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Configure puts other options in force; Prefix and Boot stay. Where Store
// changes, the active file is closed as what it was begun as: a spool's file
// goes on waiting, for whoever takes its blocks again. It belongs to the
// goroutine that appends. After an error nothing has changed.
func (s *Folder) Configure(o Options) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.Store != s.o.Store {
		if err := s.rotateLocked(); err != nil {
			return fmt.Errorf("close spool file: %w", err)
		}
	}
	o.Prefix, o.Boot = s.o.Prefix, s.o.Boot
	s.o = o.complete()
	s.adoptDue = time.Time{} // the next Tick looks at everything anew
	s.publish()
	return nil
}

// takePlace locks the first folder that nobody holds.
func (s *Folder) takePlace() error {
	for i := range maxSlots {
		dir := filepath.Join(s.root, spoolFolder, strconv.Itoa(i))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		lock, err := lockFolder(dir)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			continue
		}
		if err != nil {
			return err
		}
		s.dir, s.lock = dir, lock
		return nil
	}
	return fmt.Errorf("%d processes share %s", maxSlots, s.root)
}

// lockFolder locks dir for as long as the process lives or the file is open.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// adopt takes over the files of processes that are dead: another place's lock
// can be had only then. It is called at the start and now and then.
func (s *Folder) adopt() {
	s.adoptDue = s.o.Now().Add(30 * time.Second)
	places, _ := os.ReadDir(filepath.Join(s.root, spoolFolder))
	for _, p := range places {
		dir := filepath.Join(s.root, spoolFolder, p.Name())
		if dir == s.dir || !p.IsDir() || !holdsFiles(dir) {
			continue
		}
		lock, err := lockFolder(dir)
		if err != nil {
			continue
		}
		if err := s.inherit(dir); err != nil {
			s.o.Warn("cannot take over " + dir + ": " + err.Error())
		}
		_ = lock.Close()
	}
}

func holdsFiles(dir string) bool {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.Name() != "lock" {
			return true
		}
	}
	return false
}

// Dir is the folder of this process.
func (s *Folder) Dir() string { return s.dir }

// Dropped returns how many rows of sealed blocks were given up.
func (s *Folder) Dropped(why DropReason) uint64 { return s.dropped[why].Load() }

// Bytes, Files and Waiting say what is there: bytes and files of this
// process's folder (of the whole store's where it is one), and rows of it that
// are not acknowledged.
func (s *Folder) Bytes() int64   { return s.bytes.Load() }
func (s *Folder) Files() int64   { return s.nFiles.Load() }
func (s *Folder) Waiting() int64 { return s.waiting.Load() }

// Oldest is when the oldest block that is not acknowledged was sealed; zero
// where there is none.
func (s *Folder) Oldest() time.Time {
	if ms := s.oldest.Load(); ms != 0 {
		return time.UnixMilli(ms)
	}
	return time.Time{}
}

// publish brings the figures of files up to date. Callers hold mu, or are alone.
func (s *Folder) publish() {
	bytes, oldest := int64(0), int64(0)
	for _, f := range s.files {
		bytes += f.size
		if b := f.first(); b != nil && (oldest == 0 || b.Sealed < oldest) {
			oldest = b.Sealed
		}
	}
	if !s.o.Store {
		s.bytes.Store(bytes)
		s.nFiles.Store(int64(len(s.files)))
	}
	s.oldest.Store(oldest)
}

// drop counts rows given up and says so, at most once a minute.
func (s *Folder) drop(rows int, why DropReason, text string) {
	if rows == 0 {
		return
	}
	s.dropped[why].Add(uint64(rows))
	if now := s.o.Now(); now.Sub(s.warnedAt) >= time.Minute {
		s.warnedAt = now
		s.o.Warn(text)
	}
}

// Close closes the active file as Tick would and gives the place back.
func (s *Folder) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	err := s.rotateLocked()
	for _, f := range s.files {
		f.closeAck()
	}
	return errors.Join(err, s.lock.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// remove deletes a file that may be gone already.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
