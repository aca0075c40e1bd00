package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"streamrelay/bench/simulate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func provider(t *testing.T, o simulate.Options) string {
	t.Helper()
	p, err := simulate.New(o)
	if err != nil {
		t.Fatal(err)
	}
	addr, err := p.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return "http://" + addr
}

// run executes the command and returns what it wrote to standard output.
func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := Command("test")
	var out, messages bytes.Buffer
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&messages)
	cmd.SilenceErrors = true
	err := cmd.ExecuteContext(context.Background())
	return out.String(), err
}

func TestEveryScenarioRuns(t *testing.T) {
	url := provider(t, simulate.Options{})
	for _, s := range Scenarios() {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			args := []string{s.Name, "--url", url, "--key", "k", "--provider", url, "--duration", "300ms", "--json", "--pid", pid()}
			switch s.Name {
			case "paced", "soak", "cancel":
				args = append(args, "--streams", "20")
			case "rate":
				args = append(args, "--slo", "errors=0,rate=500")
			}
			out, err := run(t, args...)
			if err != nil && !errors.Is(err, errBroken) { // a busy machine may make a run invalid
				t.Fatal(err)
			}
			var r struct {
				Requests int64
				Errors   *int64
				Valid    *bool
				Latency  struct{ P50, P90, P99, P999, Max float64 }
				Checked  string
				Scenario string
			}
			if err := json.Unmarshal([]byte(out), &r); err != nil {
				t.Fatalf("%v in %s", err, out)
			}
			if r.Requests == 0 || r.Errors == nil || *r.Errors != 0 || r.Valid == nil || r.Latency.P50 <= 0 || r.Latency.Max < r.Latency.P999 || r.Checked != "to the last byte" || r.Scenario != s.Name {
				t.Errorf("%+v of %s", r, out[:min(len(out), 2000)])
			}
		})
	}
}

func pid() string { b, _ := json.Marshal(os.Getpid()); return string(b) }

func TestReportsAreWrittenInEveryForm(t *testing.T) {
	url := provider(t, simulate.Options{})
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	text, err := run(t, "json", "--url", url, "--key", "secret-key", "--direct", url, "--duration", "3s", "--rate", "200", "--hgrm", file("x.hgrm"), "--html", file("x.html"), "--out", file("a.json"))
	if err != nil && !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	for _, want := range []string{"Requests      [total, rate, checked]                 600, 200/s of 200 asked for, to the last byte", "Added         [latency p50, p99]", "Send lag"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for name, wants := range map[string][]string{
		"x.hgrm": {"Value     Percentile TotalCount 1/(1-Percentile)", "1.000000000000        600            inf", "#[Max     ="},
		"x.html": {"<svg", "Latency by percentile", "Latency over time", "direct", "</html>"},
		"a.json": {`"requests": 600`, `"valid": `, `"latency": {`},
	} {
		b, err := os.ReadFile(file(name))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !bytes.Contains(b, []byte(want)) {
				t.Errorf("no %q in %s", want, name)
			}
		}
		if bytes.Contains(b, []byte("secret-key")) {
			t.Errorf("%s holds the key", name)
		}
		if name == "x.html" && (bytes.Contains(b, []byte("http-equiv")) || bytes.Contains(b, []byte("<script")) || bytes.Contains(b, []byte("src=")) || bytes.Contains(b, []byte("<link"))) {
			t.Errorf("%s refers to something beyond itself", name)
		}
	}
	text, err = run(t, "--compare", file("a.json"), file("a.json"))
	if err != nil || !strings.Contains(text, "requests/s") || !strings.Contains(text, "1.000") {
		t.Errorf("%v\n%s", err, text)
	}
}

func TestABrokenSLOEndsWithAnError(t *testing.T) {
	url := provider(t, simulate.Options{})
	text, err := run(t, "json", "--url", url, "--key", "k", "--duration", "200ms", "--streams", "2", "--slo", "p99=1ns,errors=0")
	if !errors.Is(err, errBroken) || !strings.Contains(text, "BROKEN") || !strings.Contains(text, "errors ≤ 0 %") {
		t.Errorf("%v\n%s", err, text)
	}
	// A fault that only the generator injects: each answer lacks an event.
	text, err = run(t, "burst", "--url", url, "--key", "k", "--duration", "200ms", "--streams", "2", "--slo", "errors=0.1%", "--simulate", "drop=3")
	if !errors.Is(err, errBroken) || !strings.Contains(text, "× bytes differ") {
		t.Errorf("%v\n%s", err, text)
	}
}

func TestOtherProvidersAreCheckedByForm(t *testing.T) {
	url := provider(t, simulate.Options{})
	text, err := run(t, "burst", "--url", url, "--key", "k", "--duration", "200ms", "--streams", "2", "--check", "form", "--simulate", "nodone=1")
	if !errors.Is(err, errBroken) || !strings.Contains(text, "× clean end, no terminal event") || !strings.Contains(text, "by their form") {
		t.Errorf("%v\n%s", err, text)
	}
}

func TestAWrongCommandLineSaysWhatToDo(t *testing.T) {
	t.Setenv(keyVariable, "")
	url := provider(t, simulate.Options{Key: "right"})
	for _, tt := range []struct{ args, want string }{
		{"", "which scenario?"},
		{"jsn --url " + url, `there is no scenario "jsn"; there are rate, json`},
		{"json", "--url URL is needed"},
		{"json --url " + url + " --key wrong", "status 401"},
		{"json --url http://127.0.0.1:1 --key k", "connection refused"},
		{"json --url https://api.example.com --key k", "is not on this machine: load goes there only with --yes-remote"},
		{"json --url " + url + " --key right --direct http://192.0.2.1", "is not on this machine"},
		{"json --url " + url + " --rate -1", "--rate: want 0 to 200000"},
		{"json --url " + url + " --duration 1ms", "--duration: want 100ms to 24h"},
		{"json --url " + url + " --slo p98=3ms", `there is no measure "p98"`},
		{"json --url " + url + " --slo p99=3", "want errors=0.1%"},
		{"json --url " + url + " --find-max", "--find-max wants --slo"},
		{"json --url " + url + " --find-max --slo p99=1s --tries 2", "take --tries out"},
		{"json paced --url " + url + " --rate 5", "scenario paced sends nothing by schedule"},
		{"frontier --url " + url + " --slo p99=1s", "frontier looks for rates and streams by itself"},
		{"cancel --url " + url, "scenario cancel wants --provider"},
		{"json --url " + url + " --key right --simulate evnts=1", "unknown key"},
		{"json --url " + url + " --pid 999999999", "no such process"},
		{"--compare a.json", "--compare wants two files"},
		{"--compare /nowhere/a.json /nowhere/b.json", "no such file"},
	} {
		_, err := run(t, strings.Fields(tt.args)...)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.args, err, tt.want)
		}
	}
}

func TestRequestsNameTheModelThatIsAskedFor(t *testing.T) {
	var models sync.Map
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Model string }
		_ = json.NewDecoder(r.Body).Decode(&body)
		models.Store(body.Model, true)
		if body.Model != `llama "3"` {
			w.WriteHeader(404)
		}
		_, _ = io.WriteString(w, `{"choices":[]}`)
	}))
	defer other.Close()
	args := []string{"json", "--url", other.URL, "--key", "k", "--duration", "200ms", "--streams", "2"}
	if text, err := run(t, append(args, "--model", `llama "3"`)...); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
	if _, one := models.LoadAndDelete(`llama "3"`); !one {
		t.Error("it was not named")
	}
	models.Range(func(model, _ any) bool { t.Errorf("%q was named", model); return true })
	if _, err := run(t, args...); err == nil || !strings.Contains(err.Error(), "status 404") {
		t.Error(err)
	}
}

func TestWhatHasEndedIsReportedWhereALaterScenarioFails(t *testing.T) {
	url := provider(t, simulate.Options{})
	file := filepath.Join(t.TempDir(), "x.json")
	text, err := run(t, "json", "cancel", "--url", url, "--key", "k", "--provider", "http://127.0.0.1:1", "--duration", "200ms", "--streams", "2", "--out", file)
	if err == nil || !strings.Contains(err.Error(), "scenario cancel: ") || !strings.Contains(text, "json: ") {
		t.Errorf("%v\n%s", err, text)
	}
	if b, err := os.ReadFile(file); err != nil || !bytes.Contains(b, []byte(`"scenario": "json"`)) {
		t.Errorf("%v: %s", err, b)
	}
	began := time.Now()
	if _, err := run(t, "json", "--url", url, "--key", "k", "--duration", "1h", "--out", "/nonexistent/x.json"); err == nil || time.Since(began) > time.Minute {
		t.Error(err)
	}
}

func TestASearchBeginsAtTheRateThatIsABound(t *testing.T) {
	url := provider(t, simulate.Options{})
	text, err := run(t, "rate", "--find-max", "--url", url, "--key", "k", "--duration", "100ms", "--slo", "rate=150,p99=1ns", "--json")
	if !errors.Is(err, errBroken) || !strings.Contains(text, `"value": 150,`) || strings.Contains(text, "rate ≥") {
		t.Errorf("%v\n%s", err, text[:min(len(text), 3000)])
	}
}

func TestAnEndpointThatOnlyFailsEndsWithAnError(t *testing.T) {
	url := provider(t, simulate.Options{})
	if text, err := run(t, "json", "--url", url, "--key", "k", "--duration", "200ms", "--streams", "2", "--simulate", "error=503", "--slo", "p99=1h"); !errors.Is(err, errBroken) {
		t.Errorf("%v\n%s", err, text)
	}
}
