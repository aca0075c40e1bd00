package deploytest

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// root is the project's folder, seen from this package's.
const root = "../.."

// binary is the relay that `make deploytest` builds.
var binary, _ = filepath.Abs(filepath.Join(root, "bin", "relay"))

// lacking skips a test for what the machine does not have, or fails it where
// everything must be there.
func lacking(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("REQUIRE_SERVERS") == "1" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// needs skips or fails a test whose programs are not there.
func needs(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			lacking(t, "wants %s", tool)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// run runs a program in dir, with env besides its own, and fails the test where
// it does.
func run(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	out, err := output(dir, env, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// output is what a program printed on both outputs.
func output(dir string, env []string, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// copyTree copies the project, as a clone would have it, into a new folder.
func copyTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	skipped := []string{".git", "bin", "dist", "data", "secrets", "node_modules"}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(dir, strings.TrimPrefix(path, root))
		switch {
		case d.IsDir() && path != root && slices.Contains(skipped, d.Name()):
			return fs.SkipDir
		case d.IsDir():
			return os.MkdirAll(to, 0o755)
		case !d.Type().IsRegular():
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return os.WriteFile(to, data, info.Mode().Perm())
	})
	if err != nil {
		t.Fatalf("copy the tree: %v", err)
	}
	return dir
}

// checkConfig runs `relay check` on a shipped configuration, its paths moved to
// where the test laid the files.
func checkConfig(t *testing.T, file string, env []string, moved ...string) {
	t.Helper()
	if _, err := os.Stat(binary); err != nil {
		lacking(t, "wants bin/relay: run `make deploytest`")
	}
	path := filepath.Join(t.TempDir(), "relay.yaml")
	write(t, path, strings.NewReplacer(moved...).Replace(read(t, file)))
	out, err := output(t.TempDir(), env, binary, "check", "--config", path)
	if err != nil {
		t.Errorf("relay check %s: %v\n%s", file, err, out)
	}
}

// contains tells of whatever is missing in a text.
func contains(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !bytes.Contains([]byte(text), []byte(part)) {
			t.Errorf("%s does not have %q:\n%s", what, part, text)
		}
	}
}
