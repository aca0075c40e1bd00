package process

import (
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

func TestDemoOnceStreamsAWholeCompletionAndEnds(t *testing.T) {
	t.Parallel()
	r := run(t, tempDir(t), "demo", "--once", "--listen", "127.0.0.1:0")
	if r.code != 0 || r.stderr != "" {
		t.Errorf("exit code %d, stderr %q", r.code, r.stderr)
	}
	whole := regexp.MustCompile(`(?s)^relay \S+ on http://127\.0\.0\.1:\d+, upstream simulated \(http://127\.0\.0\.1:\d+/v1\)\n` +
		`\nPOST /v1/chat/completions, request id [0-9a-f-]{36}\n\n.{100,}\n\nTTFT [\d.]+ ms, 50 events in \d+ ms, complete: true\n$`)
	if !whole.MatchString(r.stdout) {
		t.Errorf("stdout:\n%s", r.stdout)
	}
}

// TestDemoKeepsServingWhatItPrints runs the printed curl lines until Ctrl-C.
func TestDemoKeepsServingWhatItPrints(t *testing.T) {
	t.Parallel()
	for _, end := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(end.String(), func(t *testing.T) {
			t.Parallel()
			p := start(t, tempDir(t), nil, binary, "demo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
			p.await(p.stdout, "Serving until Ctrl-C.\n")
			lines := curlLines(p.stdout.String())
			if len(lines) != 4 {
				t.Fatalf("%d curl lines in\n%s", len(lines), p.stdout)
			}
			for i, check := range []func(body string) bool{
				func(b string) bool {
					return strings.HasSuffix(b, "data: [DONE]\n\n") && strings.Count(b, "data: ") > 40
				},
				func(b string) bool {
					return strings.Contains(b, `"object": "list"`) || strings.Contains(b, `"object":"list"`)
				},
				func(b string) bool { return b == "ok\n" },
				func(b string) bool { return strings.Contains(b, "\nrelay_requests_total{") },
			} {
				if status, body := lines[i].run(t); status != 200 || !check(body) {
					t.Errorf("%+v: %d\n%s", lines[i], status, body)
				}
			}
			page := regexp.MustCompile(`What it does, live: (http://\S+/)\n`).FindStringSubmatch(p.stdout.String())
			if page == nil {
				t.Fatalf("no page in\n%s", p.stdout)
			}
			if status, body := (curl{url: page[1]}).run(t); status != 200 || !strings.Contains(body, "<title>") {
				t.Errorf("the page: %d\n%s", status, body)
			}
			p.signal(end)
			p.mustExit(0)
			if text := withoutLibrary(p.stderr.String()); text != "" {
				t.Errorf("stderr: %q", text)
			}
		})
	}
}

// curl is one printed command line.
type curl struct {
	url, body string
	headers   [][2]string
}

var (
	curlURL    = regexp.MustCompile(`http://\S+`)
	curlHeader = regexp.MustCompile(`-H '([^:']+): ([^']*)'`)
	curlData   = regexp.MustCompile(`-d '([^']*)'`)
)

// curlLines reads the command lines that begin with curl, continuation lines
// included.
func curlLines(text string) (lines []curl) {
	text = strings.ReplaceAll(text, "\\\n", " ")
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "curl ") {
			continue
		}
		c := curl{url: curlURL.FindString(line)}
		for _, h := range curlHeader.FindAllStringSubmatch(line, -1) {
			c.headers = append(c.headers, [2]string{h[1], h[2]})
		}
		if d := curlData.FindStringSubmatch(line); d != nil {
			c.body = d[1]
		}
		lines = append(lines, c)
	}
	return lines
}

// run does what curl would do.
func (c curl) run(t *testing.T) (status int, body string) {
	t.Helper()
	method := http.MethodGet
	if c.body != "" {
		method = http.MethodPost
	}
	req, err := http.NewRequest(method, c.url, strings.NewReader(c.body))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range c.headers {
		req.Header.Set(h[0], h[1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%+v: %v", c, err)
	}
	defer res.Body.Close()
	all, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%+v: %v", c, err)
	}
	return res.StatusCode, string(all)
}

// TestDemoNeedsNoFile: the demo reads and writes nothing on disk.
func TestDemoNeedsNoFile(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	if r := run(t, dir, "demo", "--once", "--listen", "127.0.0.1:0"); r.code != 0 {
		t.Fatalf("exit code %d, stderr %q", r.code, r.stderr)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
