package spool

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestWhatAClientWroteIsNoBlock: a header and a frame in a body, which is stored
// as it is, behind a header that is damaged, or in a frame that is. The blocks of
// the process that wrote the file are found, under all names that it may have.
func TestWhatAClientWroteIsNoBlock(t *testing.T) {
	const boot = "01a22847db8b70eb8f984cd465528543"
	block := func(token, text string) []byte {
		frame := Pack(nil, []byte(text), nil)
		head, err := appendHeader(nil, &Header{Rows: 1, Token: token}, frame)
		if err != nil {
			t.Fatal(err)
		}
		return append(head, frame...)
	}
	first, third := block(boot+"/1", "first"), block(boot+"/3", "third")
	second := block(boot+"/2", "some body "+string(block("x", "forged"))+string(block("01a22847db8b70eb8f984cd465528544/1", "forged")))
	flipped := func(b []byte, at int) []byte {
		b = bytes.Clone(b)
		b[at] ^= 1
		return b
	}
	want := fmt.Sprint([]string{boot + "/1", boot + "/3"})
	for _, name := range []string{
		"request_bodies.v1." + boot + "-000007" + ending, "request_bodies.v1." + boot + "-000007" + openEnding,
		"request_bodies.v1." + boot + "-2" + ending, "request_bodies.v1." + boot + "-2+3" + ending, // put aside
		"copy" + ending, "backup-2026" + ending, // somebody else's names
	} {
		for what, data := range map[string][]byte{
			"the header": bytes.Join([][]byte{first, flipped(second, 20), third}, nil),
			"the frame":  bytes.Join([][]byte{first, flipped(second, len(second)-1), third}, nil),
			"the length": bytes.Join([][]byte{first, flipped(second, 4), third}, nil),
		} {
			path := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			var got []string
			read := func() {
				t.Helper()
				damaged, err := Blocks(path, nil, func(h *Header, _ []byte) error { got = append(got, h.Token); return nil })
				if err != nil || fmt.Sprint(got) != want {
					t.Errorf("%s, damaged %s: %q, %v, %v", name, what, got, damaged, err)
				}
				got = nil
			}
			read()
			if _, _, err := recoverFile(path); err != nil {
				t.Fatal(err)
			}
			read()
		}
	}
}

// TestBlocksAfterADamagedFirstOneAreFoundUnderAnyName: with nothing to go by all
// are taken.
func TestBlocksAfterADamagedFirstOneAreFoundUnderAnyName(t *testing.T) {
	s := open(t, t.TempDir(), func(o *Options) { o.Boot = "boot" })
	for i := range 3 {
		put(t, s, i)
	}
	data, err := os.ReadFile(s.active.path)
	if err != nil {
		t.Fatal(err)
	}
	data[20] ^= 1
	for _, name := range []string{filepath.Base(s.active.path), "copy" + ending} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		n := 0
		if _, err := Blocks(path, nil, func(*Header, []byte) error { n++; return nil }); err != nil || n != 2 {
			t.Errorf("%s: %d blocks of 2, %v", name, n, err)
		}
	}
}
