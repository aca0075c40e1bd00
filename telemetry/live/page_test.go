package live

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"testing"
)

func TestThePageIsLight(t *testing.T) {
	s := serve(t, newClock(Sources{}), nil)
	total, files := 0, []string{"/"}
	err := fs.WalkDir(page, "page", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			body, err := page.ReadFile(path)
			total += len(body)
			return err
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes", total)
	if total > 120_000 {
		t.Errorf("the page and its files are %d bytes, want at most 120,000", total)
	}
	for _, path := range files {
		res, err := http.Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		again, _ := http.NewRequest("GET", s.URL+path, nil)
		again.Header.Set("If-None-Match", res.Header.Get("ETag"))
		if res, err = http.DefaultClient.Do(again); err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusNotModified {
			t.Errorf("%s again: status %d", path, res.StatusCode)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestTheVendoredFilesAreThoseOfTheirNote(t *testing.T) {
	note, err := os.ReadFile("page/uplot/README.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for line := range strings.Lines(string(note)) {
		sum, name, ok := strings.Cut(strings.TrimSpace(line), "  ")
		if !ok || len(sum) != 64 {
			continue
		}
		found++
		body, err := page.ReadFile("page/uplot/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if got := sha256.Sum256(body); hex.EncodeToString(got[:]) != sum {
			t.Errorf("%s is %x, and %s by the note", name, got, sum)
		}
	}
	if licence, err := os.ReadFile("page/uplot/LICENSE"); err != nil || found != 2 || !bytes.Contains(licence, []byte("MIT")) {
		t.Errorf("%d files are named; licence: %v", found, err)
	}
}
