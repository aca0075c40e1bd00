package auth

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func ids(t *testing.T, path string) []string {
	t.Helper()
	records, err := readFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, r := range records {
		ids = append(ids, r.ID)
	}
	return ids
}

func TestCommandsAtTheSameTimeLoseNoKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.yaml")
	const processes, each = 4, 5
	var wg sync.WaitGroup
	for range processes {
		wg.Go(func() {
			for range each {
				if out, err := process(t, "keys", "create", "--file", path).CombinedOutput(); err != nil {
					t.Errorf("%v: %s", err, out)
				}
			}
		})
	}
	for range each { // and goroutines of one process
		wg.Go(func() { create(t, path, "") })
	}
	wg.Wait()
	if got := ids(t, path); len(got) != (processes+1)*each {
		t.Errorf("%d keys, want %d", len(got), (processes+1)*each)
	}
}

// A writer is killed at whatever point it is at; what it has reported stored is
// there, the file is whole, and the next writer is not hindered.
func TestAKilledWriterLeavesAWholeFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.yaml")
	var reported []string
	for range 10 {
		writer := process(t, "writer", path)
		out, err := writer.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := writer.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for i := 0; lines.Scan(); i++ {
			reported = append(reported, lines.Text())
			if i == 3 {
				writer.Process.Kill() // it goes on until then: the point is anywhere
			}
		}
		writer.Wait()
		stored := ids(t, path)
		for _, id := range reported {
			if !slices.Contains(stored, id) {
				t.Fatalf("%s was reported and is not there", id)
			}
		}
	}
	create(t, path, "next")
	if _, err := os.Stat(tempName(path)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a temporary file is left: %v", err)
	}
}

func TestWhatAKilledWriterLeftIsNotTakenForTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.yaml")
	create(t, path, "first")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, tempName(path), string(before[:len(before)/2]))
	if got := ids(t, path); len(got) != 1 {
		t.Errorf("%d keys", len(got))
	}
	create(t, path, "second")
	if got := ids(t, path); len(got) != 2 {
		t.Errorf("%d keys", len(got))
	}
}

func TestABrokenFileIsNotOverwritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.yaml")
	const broken = "keys:\n- id: only\n"
	write(t, path, broken)
	var format *FormatError
	if _, _, err := createKey(t.Context(), &fileKeeper{path: path}, grant{}, time.Now()); !errors.As(err, &format) {
		t.Errorf("create: %v", err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != broken {
		t.Errorf("the file became %q, %v", got, err)
	}
}

func TestAnEditThatFailsChangesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.yaml")
	create(t, path, "taken")
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := importKeys(t.Context(), &fileKeeper{path: path}, []string{"one", "two", "one"}, grant{}, time.Now()); err == nil || !strings.HasPrefix(err.Error(), "key 3 of the input: the key is there already, as key_") {
		t.Errorf("import of a key twice: %v", err)
	}
	if _, _, err := createKey(t.Context(), &fileKeeper{path: path}, grant{name: "taken"}, time.Now()); err == nil || err.Error() != `the name "taken" is taken` {
		t.Errorf("a taken name: %v", err)
	}
	after, err := os.Stat(path)
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("the file was replaced: %v", err)
	}
}

func TestModeIsForTheOwnerAloneUnlessTheGroupWasLetIn(t *testing.T) {
	for _, test := range []struct{ before, after fs.FileMode }{
		{0, 0o600}, {0o600, 0o600}, {0o644, 0o600}, {0o640, 0o640}, {0o666, 0o600}, {0o400, 0o600}, {0o660, 0o600},
	} {
		path := filepath.Join(t.TempDir(), "keys.yaml")
		if test.before != 0 {
			write(t, path, "keys: []\n")
			if err := os.Chmod(path, test.before); err != nil {
				t.Fatal(err)
			}
		}
		create(t, path, "")
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != test.after {
			t.Errorf("%v became %v, want %v; %v", test.before, info.Mode().Perm(), test.after, err)
		}
	}
}

func TestRootLeavesTheFileToItsOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away: run the tests as root")
	}
	const relay = 4321 // any user but root
	owner := func(path string) (uid, gid uint32) {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		st := info.Sys().(*syscall.Stat_t)
		return st.Uid, st.Gid
	}
	for _, existing := range []bool{false, true} {
		dir := t.TempDir()
		path := filepath.Join(dir, "keys.yaml")
		give := dir // a new file goes to the owner of the folder
		if existing {
			write(t, path, "keys: []\n")
			give = path
		}
		if err := os.Chown(give, relay, relay+1); err != nil {
			t.Fatal(err)
		}
		create(t, path, "")
		for _, file := range []string{path, path + ".lock"} {
			if uid, gid := owner(file); uid != relay || gid != relay+1 {
				t.Errorf("existing %v: %s belongs to %d:%d", existing, filepath.Base(file), uid, gid)
			}
		}
	}
}

func TestALockHeldForTooLongIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "keys.yaml")
		lock, err := lockFile(path)
		if err != nil {
			t.Fatal(err)
		}
		defer lock.Close()
		_, _, err = createKey(t.Context(), &fileKeeper{path: path}, grant{}, time.Now())
		if err == nil || !strings.Contains(err.Error(), "another process has held it for 10s") {
			t.Errorf("got %v", err)
		}
	})
}

func TestAMissingFolderIsNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing", "keys.yaml")
	if _, _, err := createKey(t.Context(), &fileKeeper{path: path}, grant{}, time.Now()); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "missing") {
		t.Errorf("got %v", err)
	}
}

func TestNoRawKeyIsOnDisk(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keys.yaml")
	key := create(t, path, "")
	if _, err := importKeys(t.Context(), &fileKeeper{path: path}, []string{"imported-secret"}, grant{}, time.Now()); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		data, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{key, key[len(keyPrefix):], "imported-secret"} {
			if bytes.Contains(data, []byte(secret)) {
				t.Errorf("%s holds a raw key", entry.Name())
			}
		}
	}
	if got := fmt.Sprint(len(entries)); got != "2" {
		t.Errorf("%s files, want the keys and the lock", got)
	}
}

// readFile returns the records of a keys file, in its order. A file that is
// not there is an fs.ErrNotExist, one that is broken a *FormatError.
func readFile(path string) ([]*Record, error) {
	data, _, err := readWhole(path)
	if err != nil {
		return nil, err
	}
	f, err := parseKeys(path, data)
	if err != nil {
		return nil, err
	}
	return f.records, nil
}
