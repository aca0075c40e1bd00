package auth

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	lockWait  = 10 * time.Second // for another writer, who needs milliseconds
	lockRetry = 5 * time.Millisecond

	fileMode  = 0o600
	groupMode = 0o640 // kept where the operator has set exactly this
)

// editFile changes the keys file as one step for readers and other writers: it
// reads, lets edit change what was read, and puts a new file under the name.
// A process that dies at any point leaves either the old file or the new one,
// whole. A file that is broken is not touched. Writers of one file wait for
// each other on a lock file beside it, which stays.
func editFile(path string, edit func(*keysFile) error) error {
	// The file itself is replaced, not a link that leads to it.
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("keys file: %w", err)
	}
	lock, err := lockFile(path)
	if err != nil {
		return err
	}
	defer lock.Close() // and with it goes the lock

	f := newKeysFile()
	data, info, err := readWhole(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		if f, err = parseKeys(path, data); err != nil {
			return err
		}
	}
	if info == nil && os.Geteuid() == 0 {
		// Root makes the file for the owner of the folder: the relay, where it has one.
		if info, err = os.Stat(filepath.Dir(path)); err != nil {
			return fmt.Errorf("keys file: %w", err)
		}
	}
	if info != nil {
		_ = keepOwner(lock, info) // only a courtesy to the next writer
	}
	if err := edit(f); err != nil {
		return err
	}
	if data, err = f.encode(path); err != nil {
		return err
	}
	if len(data) > maxFile {
		return fmt.Errorf("write %q: it would be larger than %d MiB; so many keys belong into Redis", path, maxFile>>20)
	}
	fill := func(w io.Writer) error { _, err := w.Write(data); return err }
	if err := replaceFile(path, fill, info); err != nil {
		return fmt.Errorf("write keys file: %w", err)
	}
	return nil
}

// lockFile takes the lock that belongs to path. The caller closes the file.
func lockFile(path string) (*os.File, error) {
	lock, err := os.OpenFile(path+".lock", os.O_RDONLY|os.O_CREATE, fileMode)
	if err != nil {
		return nil, fmt.Errorf("make a lock: %w", err)
	}
	for deadline := time.Now().Add(lockWait); ; time.Sleep(lockRetry) {
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return lock, nil
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			lock.Close()
			return nil, fmt.Errorf("lock %q: %w", lock.Name(), err)
		case time.Now().After(deadline):
			lock.Close()
			return nil, fmt.Errorf("lock %q: another process has held it for %v", lock.Name(), lockWait)
		}
	}
}

// tempName is where the next content of path is written. One name suffices
// under the lock, and what a killed writer left there is overwritten.
func tempName(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".tmp")
}

// replaceFile puts what fill writes under path by way of a temporary file, on disk before
// it is seen. like is the file that is replaced: its owner stays, since root may
// run the command and the relay must read the result. nil: there is none.
func replaceFile(path string, fill func(io.Writer) error, like fs.FileInfo) (err error) {
	temp := tempName(path)
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// O_EXCL: never through a link that somebody laid there.
	file, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			file.Close()
			os.Remove(temp)
		}
	}()
	if like != nil {
		if err := keepOwner(file, like); err != nil {
			return err
		}
	}
	if err := fill(file); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync() // the new name, too, survives a power cut
}

// keepOwner gives file the owner of like, and its mode if that is groupMode.
func keepOwner(file *os.File, like fs.FileInfo) error {
	was := like.Sys().(*syscall.Stat_t)
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if is := info.Sys().(*syscall.Stat_t); is.Uid != was.Uid || is.Gid != was.Gid {
		if err := file.Chown(int(was.Uid), int(was.Gid)); err != nil {
			return fmt.Errorf("keep the file's owner (run the command as that user): %w", err)
		}
	}
	if like.Mode().Perm() == groupMode {
		return file.Chmod(groupMode)
	}
	return nil
}
