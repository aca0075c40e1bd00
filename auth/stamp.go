package auth

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// maxFile bounds a keys file: about 80,000 keys. More belong into Redis.
const maxFile = 32 << 20

// stamp tells one state of a file from another without reading it. The zero
// stamp stands for a file that is not there.
type stamp struct {
	dev, ino             uint64
	size, mtime, changed int64 // nanoseconds
}

// stampOf returns the stamp of what path is now; a symbolic link counts as
// what it leads to, which is how Kubernetes swaps files.
func stampOf(path string) (stamp, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return stamp{}, nil
	}
	if err != nil {
		return stamp{}, err
	}
	return infoStamp(info), nil
}

func infoStamp(info fs.FileInfo) stamp {
	st := info.Sys().(*syscall.Stat_t)
	return stamp{
		dev: uint64(st.Dev), ino: st.Ino,
		size: st.Size, mtime: st.Mtim.Nano(), changed: st.Ctim.Nano(),
	}
}

// readWhole reads a regular file and the stamp that belongs to what was read.
func readWhole(path string) (data []byte, info fs.FileInfo, err error) {
	// O_NONBLOCK: opening a FIFO must not wait for its writer.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	if info, err = file.Stat(); err != nil {
		return nil, nil, err
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, nil, fmt.Errorf("read %q: not a regular file", path)
	case info.Size() > maxFile:
		return nil, nil, fmt.Errorf("read %q: larger than %d MiB; so many keys belong into Redis", path, maxFile>>20)
	}
	data, err = io.ReadAll(io.LimitReader(file, maxFile))
	return data, info, err
}
