package logs

import "testing"

// What a client wrote neither commands a terminal nor turns its line around.
func TestTextOfClientsIsSafeForATerminal(t *testing.T) {
	for in, want := range map[string]string{
		"naïve → 日本": "naïve → 日本",
		"a\x1b[2Jb":  "a?[2Jb",
		"a\u202eb":   "a?b",
		"a\u2066b":   "a?b",
		"👩\u200d💻":   "👩\u200d💻",
		"\ufffd":     "?",
	} {
		if got := clean(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
		if got := safe([]byte(in)); got != want {
			t.Errorf("as a body %q becomes %q, want %q", in, got, want)
		}
	}
	if got := safe([]byte("one\r\n\ttwo\n")); got != "one\n\ttwo" {
		t.Errorf("lines become %q", got)
	}
}
