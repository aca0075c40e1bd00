package bench

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"streamrelay/bench/simulate"
)

// TestADirectEndpointThatFailsIsNoCleanRun fails half of what a run sends.
func TestADirectEndpointThatFailsIsNoCleanRun(t *testing.T) {
	t.Parallel()
	profile, err := simulate.ParseProfile(simulate.Profile{}, []byte("cut=5"))
	if err != nil {
		t.Fatal(err)
	}
	good, bad := provider(t, simulate.Options{}), provider(t, simulate.Options{Profile: profile})
	html := filepath.Join(t.TempDir(), "x.html")
	text, err := run(t, "burst", "--url", good, "--direct", bad, "--key", "k", "--duration", "300ms", "--streams", "2", "--html", html)
	if !errors.Is(err, errBroken) || !strings.Contains(text, "the direct endpoint failed ") || !strings.Contains(text, " × cut): nothing can be compared with it") || strings.Contains(text, "Added ") {
		t.Errorf("%v\n%s", err, text)
	}
	if page, err := os.ReadFile(html); err != nil || !bytes.Contains(page, []byte("Not valid: the direct endpoint failed")) || !bytes.Contains(page, []byte("error of the direct endpoint")) {
		t.Errorf("the page does not say so: %v", err)
	}
}
