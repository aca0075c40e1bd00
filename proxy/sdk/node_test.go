package sdk

import (
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// installed are the files that say what is installed; their digest names the
// folder in the cache.
//
//go:embed package.json package-lock.json .npmrc
var installed embed.FS

//go:embed *.mjs
var scripts embed.FS

const (
	installTime = 4 * time.Minute
	nodeTime    = 2 * time.Minute // for one file of tests
)

// node is a Node with the clients beside its scripts.
type node struct {
	binary string
	dir    string // of the scripts
}

// findNode returns the pinned Node with the scripts in a folder of their own.
// It skips the test where that cannot be had, or fails it where it must.
func findNode(t *testing.T) *node {
	t.Helper()
	modules, err := installClients(t)
	n := &node{dir: t.TempDir()}
	if err == nil {
		n.binary = filepath.Join(modules, "node-"+runtime.GOOS+"-"+strings.Replace(runtime.GOARCH, "amd64", "x64", 1), "bin", "node")
		_, err = n.run(nil, "--version")
	}
	if err != nil {
		if os.Getenv("REQUIRE_SERVERS") == "1" {
			t.Fatalf("no Node with the clients: %v", err)
		}
		t.Skipf("not run: %v\nThis test wants npm (Debian: apt-get install npm), and a registry once.", err)
	}
	// An ES module looks for packages in the folders above it, nowhere else.
	if err := os.Symlink(modules, filepath.Join(n.dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(n.dir, scripts); err != nil {
		t.Fatal(err)
	}
	return n
}

// installClients returns the node_modules folder of the locked versions,
// installing it on the first run. Several processes may do so at once: each
// installs into a folder of its own, and the first to be ready gives the name.
func installClients(t *testing.T) (modules string, err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	cache = filepath.Join(cache, "streamrelay")
	digest, err := digestOf(installed)
	if err != nil {
		return "", err
	}
	modules = filepath.Join(cache, "sdk-"+digest, "node_modules")
	if exists(modules) {
		return modules, nil
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		return "", fmt.Errorf("find npm: %w", err)
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("make the cache folder: %w", err)
	}
	dir, err := os.MkdirTemp(cache, "installing-")
	if err != nil {
		return "", fmt.Errorf("make the cache folder: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := os.CopyFS(dir, installed); err != nil {
		return "", fmt.Errorf("copy the lock file: %w", err)
	}
	t.Log("installing the clients, once")
	// npm itself runs on an older Node than the clients ask for, and warns.
	cmd, cancel := command(installTime, npm, "ci", "--loglevel=error", "--ignore-scripts")
	defer cancel()
	cmd.Dir = dir
	cmd.Env = os.Environ()
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci: %w\n%s", err, out)
	}
	if err := os.Rename(dir, filepath.Dir(modules)); err != nil && !errors.Is(err, fs.ErrExist) && !exists(modules) {
		return "", fmt.Errorf("take the install into use: %w", err)
	}
	return modules, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// digestOf digests all files of a flat file system, names included.
func digestOf(files fs.FS) (string, error) {
	h := sha256.New()
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		data, err := fs.ReadFile(files, e.Name())
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %d\n%s", e.Name(), len(data), data)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8]), nil
}

// test runs one file of tests and returns what Node printed.
func (n *node) test(file string, env ...string) ([]byte, error) {
	return n.run(env, "--test", "--test-reporter=spec", "--test-timeout=60000", file)
}

// run runs Node and returns what it printed.
func (n *node) run(env []string, args ...string) ([]byte, error) {
	cmd, cancel := command(nodeTime, n.binary, args...)
	defer cancel()
	cmd.Dir = n.dir
	// Nothing of the user's own: keys, proxies and profiles would be taken up.
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + n.dir, "NO_COLOR=1"}, env...)
	return cmd.CombinedOutput()
}

// command is a command that is ended, with all that it started, after limit.
func command(limit time.Duration, name string, args ...string) (*exec.Cmd, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	return cmd, cancel
}
