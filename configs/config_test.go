package configs

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// planted stands in every secret of testdata, and in most texts that are in a
// wrong place there; nothing that is printed may hold it.
const planted = "PLANTED"

// testEnv is the environment of testdata.
func testEnv(name string) (string, bool) {
	v, ok := map[string]string{
		"SECRET":                planted + "-variable",
		"EMPTY":                 "",
		"LINE_BREAK":            planted + "\n",
		"TWO_LINES":             planted + "\nX-Evil: 1",
		"NOT_UTF8":              planted + "\xff",
		"NUMBER":                "7",
		"SIZE":                  "3MiB",
		"CREDENTIALS_DIRECTORY": "testdata",
	}[name]
	return v, ok
}

func TestEachMistakeHasItsExactMessage(t *testing.T) {
	for _, path := range files(t, "testdata/bad.*.yaml") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			c, warnings, err := Load(path, testEnv)
			if err == nil || c != nil || warnings != nil {
				t.Fatalf("Load = %v, %v, %v; want only an error", c, warnings, err)
			}
			var exit interface{ ExitCode() int }
			if !errors.As(err, &exit) || exit.ExitCode() != 78 {
				t.Errorf("%T has not exit code 78", err)
			}
			golden(t, path, err.Error()+"\n")
		})
	}
}

func TestGoodFilesMeanWhatTheyPrint(t *testing.T) {
	for _, path := range files(t, "testdata/good.*.yaml") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			c, warnings, err := Load(path, testEnv)
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			if err := c.Print(&out); err != nil {
				t.Fatal(err)
			}
			for _, w := range warnings {
				// Whether others may read it depends on the checkout.
				if !strings.Contains(w.Message, "others may read") {
					fmt.Fprintf(&out, "# %v\n", w)
				}
			}
			golden(t, path, out.String())
		})
	}
}

// A mistake must be found by who reads the log, and a secret must not.
func TestNothingThatIsPrintedHoldsASecret(t *testing.T) {
	for _, path := range files(t, "testdata/*.yaml") {
		c, warnings, err := Load(path, testEnv)
		text := fmt.Sprintf("%v %+v %#v %q %v %v %+v %#v", err, err, err, err, warnings, c, c, c)
		if c != nil {
			var out bytes.Buffer
			if err := c.Print(&out); err != nil {
				t.Fatal(err)
			}
			text += out.String()
		}
		var problems *Problems
		if errors.As(err, &problems) {
			text += fmt.Sprintf("%+v", problems.List)
		}
		if i := strings.Index(text, planted); i >= 0 {
			t.Errorf("%s: printed: …%s…", path, text[max(0, i-60):min(len(text), i+20)])
		}
	}
}

func files(t testing.TB, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		t.Fatalf("no files %s: %v", pattern, err)
	}
	return found
}

// golden compares got with the .want file beside path.
func golden(t *testing.T, path, got string) {
	t.Helper()
	name := strings.TrimSuffix(path, ".yaml") + ".want"
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}
