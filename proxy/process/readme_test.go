package process

import (
	"bytes"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"streamrelay/configs/porttest"
)

// root is the module's folder, seen from this package's.
const root = "../.."

// buildTime bounds one block of a guide, which may build the relay.
const buildTime = 3 * time.Minute

// guides are the documents whose commands are run.
var guides = []string{"README.md", "configs/quickstart.zh-CN.md"}

// block is a fenced block of a guide that is marked to be run: by the comment
// <!-- run --> on the line before it, or by <!-- run until: TEXT --> where it
// serves until Ctrl-C, which comes once it has printed TEXT.
type block struct {
	line   int
	script string
	until  string
}

var mark = regexp.MustCompile(`^<!-- run(?: until: (.+))? -->$`)

// blocksOf finds the marked blocks of a Markdown text.
func blocksOf(text string) (blocks []block, err error) {
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		m := mark.FindStringSubmatch(lines[i])
		if m == nil {
			if strings.Contains(lines[i], "<!-- run") {
				return nil, fmt.Errorf("line %d: %s is no mark", i+1, lines[i])
			}
			continue
		}
		if i+1 == len(lines) || lines[i+1] != "```sh" {
			return nil, fmt.Errorf("line %d: no sh block behind the mark", i+1)
		}
		n := slices.Index(lines[i+2:], "```")
		if n < 0 {
			return nil, fmt.Errorf("line %d: the block does not end", i+2)
		}
		blocks = append(blocks, block{i + 1, strings.Join(lines[i+2:i+2+n], "\n") + "\n", m[1]})
		i += 2 + n
	}
	return blocks, nil
}

// TestGuidesCommandsWork runs the marked blocks of each guide in a copy of the
// tree, each as a user would paste it. The addresses in them become free ones;
// make run has its own.
func TestGuidesCommandsWork(t *testing.T) {
	t.Parallel()
	for _, guide := range guides {
		t.Run(guide, func(t *testing.T) { runGuide(t, guide) })
	}
}

func runGuide(t *testing.T, guide string) {
	text, err := os.ReadFile(filepath.Join(root, guide))
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := blocksOf(string(text))
	if err != nil {
		t.Fatalf("%s: %v", guide, err)
	}
	if len(blocks) == 0 {
		t.Fatalf("%s marks no block to be run", guide)
	}
	for _, tool := range []string{"bash", "make", "curl", "go"} {
		if _, err := exec.LookPath(tool); err != nil {
			lacking(t, "its commands want %s", tool)
		}
	}
	dir := copyTree(t)
	for _, b := range blocks {
		t.Run(fmt.Sprintf("line %d", b.line), func(t *testing.T) {
			if strings.Contains(b.script, "make run") && !isFree("127.0.0.1:8080") {
				lacking(t, "make run wants 127.0.0.1:8080, which another process has")
			}
			runBlock(t, dir, b)
		})
	}
}

// lacking skips a test for what the machine does not have, or fails it where
// everything must be there.
func lacking(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("REQUIRE_SERVERS") == "1" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

func isFree(addr string) bool {
	ln, err := net.Listen("tcp", addr)
	if err == nil {
		ln.Close()
	}
	return err == nil
}

var loopback = regexp.MustCompile(`127\.0\.0\.1:[0-9]+`)

// runBlock runs b by bash, strictly, and ends what it left in the background.
func runBlock(t *testing.T, dir string, b block) {
	free := map[string]string{}
	script := loopback.ReplaceAllStringFunc(b.script, func(addr string) string {
		if free[addr] == "" {
			free[addr] = porttest.FreeAddress(t)
		}
		return free[addr]
	})
	script = "set -euo pipefail\ntrap 'kill $(jobs -p) 2> /dev/null || true; wait' EXIT\n" + script
	p := start(t, dir, func(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }, "bash", "-c", script)
	group := -p.cmd.Process.Pid
	t.Cleanup(func() { _ = syscall.Kill(group, syscall.SIGKILL) })
	limit := time.After(buildTime)
	for b.until != "" && !strings.Contains(p.stdout.String(), b.until) {
		more := p.stdout.more()
		select {
		case <-more:
		case <-time.After(patience): // what came between the look and more
		case <-p.ended:
			t.Fatalf("ended (%v) without %q; stdout:\n%s\nstderr:\n%s", p.cmd.ProcessState, b.until, p.stdout, p.stderr)
		case <-limit:
			t.Fatalf("not in time: %q; stdout:\n%s\nstderr:\n%s", b.until, p.stdout, p.stderr)
		}
	}
	if b.until != "" {
		_ = syscall.Kill(group, syscall.SIGINT) // as a terminal does
	}
	select {
	case <-p.ended:
	case <-limit:
		t.Fatalf("has not ended; stdout:\n%s\nstderr:\n%s", p.stdout, p.stderr)
	}
	// make ends by the signal itself, whatever the relay's own code was.
	if code := p.cmd.ProcessState.ExitCode(); code != 0 && b.until == "" {
		t.Errorf("exit code %d; script:\n%s\nstdout:\n%s\nstderr:\n%s", code, script, p.stdout, p.stderr)
	}
	for _, wrong := range []string{"panic", "BUG"} {
		if strings.Contains(p.stdout.String()+p.stderr.String(), wrong) {
			t.Errorf("printed: %s; stdout:\n%s\nstderr:\n%s", wrong, p.stdout, p.stderr)
		}
	}
}

// copyTree copies the source tree, as a clone would have it, into a new folder.
func copyTree(t *testing.T) string {
	t.Helper()
	dir := tempDir(t)
	skipped := []string{".git", "bin", "data", "node_modules"}
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
		case filepath.Dir(path) == root && (strings.HasPrefix(d.Name(), "relay.") || strings.Contains(d.Name(), "keys.yaml")):
			return nil // of whoever works here
		case !d.Type().IsRegular():
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(to, content, info.Mode().Perm())
	})
	if err != nil {
		t.Fatalf("copy the tree: %v", err)
	}
	return dir
}

// TestREADMEIsTrueAboutNames: what it calls a metric, a target, a key or a file
// is one.
func TestREADMEIsTrueAboutNames(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	r := startRelay(t, simulate(t), "")
	metrics, _ := r.scrape()
	for _, file := range []string{"proxy/keys.go", "proxy/publish.go"} { // those of Redis and TLS, which this relay has not
		source, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`gauge\("(relay_[a-z_]+)"|Histogram\("(relay_[a-z_]+)"`).FindAllSubmatch(source, -1) {
			metrics += "# TYPE " + string(m[1]) + string(m[2]) + " "
		}
	}
	for _, name := range regexp.MustCompile("relay_[a-z_]+[a-z]").FindAll(readme, -1) {
		if !bytes.Contains([]byte(metrics), append([]byte("# TYPE "), name...)) && !strings.HasSuffix(string(name), "_count") {
			t.Errorf("README.md names the metric %s, which is not exposed", name)
		}
	}
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?m)`(?:make )?((?:build|run|test|race|fuzz|bench|compare|lint|cover|servers|clean)(?: [a-z]+)*)`|^make ([a-z]+)$").FindAllSubmatch(readme, -1) {
		for _, target := range strings.Fields(string(m[1]) + " " + string(m[2])) {
			if !bytes.Contains(makefile, []byte("\n"+target+":")) {
				t.Errorf("README.md names the target %s, which the Makefile does not have", target)
			}
		}
	}
	reference, err := os.ReadFile(filepath.Join(root, "configs", "relay.reference.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("`(?:[a-z_]+\\.)?([a-z]+_[a-z_]+)`").FindAllSubmatch(section(readme, "## Configuration", "## What is relayed"), -1) {
		if !bytes.Contains(reference, append(m[1], ':')) {
			t.Errorf("README.md names the key %s, which relay.reference.yaml does not have", m[1])
		}
	}
	for _, path := range regexp.MustCompile("`((?:configs|bench|\\.ci)/[A-Za-z0-9./_]+)`").FindAllSubmatch(readme, -1) {
		if _, err := os.Stat(filepath.Join(root, string(path[1]))); err != nil {
			t.Errorf("README.md names a file: %v", err)
		}
	}
}

// section is the text between two headings.
func section(text []byte, from, to string) []byte {
	_, text, _ = bytes.Cut(text, []byte("\n"+from+"\n"))
	text, _, _ = bytes.Cut(text, []byte("\n"+to+"\n"))
	return text
}

// TestREADMESaysEveryEndReasonAndCode that the relay can give.
func TestREADMESaysEveryEndReasonAndCode(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(filepath.Join(root, "proxy", "errors.go"))
	if err != nil {
		t.Fatal(err)
	}
	codes := map[string]bool{}
	for _, m := range regexp.MustCompile(`code: "([a-z_]+)"|bad(?:Request)\("([a-z_]+)"`).FindAllSubmatch(source, -1) {
		codes[string(m[1])+string(m[2])] = true
	}
	if len(codes) < 10 {
		t.Fatalf("found only %d codes", len(codes))
	}
	for code := range codes {
		if !bytes.Contains(section(readme, "## Errors", "## Metrics and log"), []byte("`"+code+"`")) {
			t.Errorf("README.md does not name the code %s", code)
		}
	}
	quickstart, err := os.ReadFile(filepath.Join(root, "configs", "quickstart.zh-CN.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?m)^\\| [0-9]{3} `([a-z_]+)`").FindAllSubmatch(quickstart, -1) {
		if !codes[string(m[1])] {
			t.Errorf("quickstart.zh-CN.md names the code %s, which the relay does not give", m[1])
		}
	}
	r := startRelay(t, simulate(t), "")
	_, series := r.scrape()
	reasons := section(readme, "## Streaming", "## Errors")
	found := 0
	for name := range series {
		reason, ok := strings.CutPrefix(name, `relay_end_reasons_total{reason="`)
		if !ok {
			continue
		}
		found++
		reason = strings.TrimSuffix(reason, `"}`)
		short := strings.TrimPrefix(reason, "timeout")
		if !bytes.Contains(reasons, []byte("`"+reason+"`")) && !bytes.Contains(reasons, []byte("`"+short+"`")) {
			t.Errorf("README.md does not name the end reason %s", reason)
		}
	}
	if found < 15 {
		t.Errorf("found only %d end reasons", found)
	}
}
