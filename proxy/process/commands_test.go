package process

import (
	"encoding/json"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"streamrelay/configs/porttest"
)

const goodYAML = `admin: {listen: ""}
upstreams:
  - {name: sim, base_url: "http://127.0.0.1:1/v1", dialect: openai, credentials: [{value: "${UPSTREAM_KEY:-sk-up}"}]}
`

// TestExitCodesAndFirstLines: 0, 1 runtime, 2 usage, 69 a dependency out of
// reach, 78 configuration; each failure says on its first line what it is.
func TestExitCodesAndFirstLines(t *testing.T) {
	t.Parallel()
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { busy.Close() })
	inUse := busy.Addr().String()
	nobody := porttest.DeadAddress(t)
	const missing = "cannot read the configuration: no such file or directory: name another file with --config"
	for _, c := range []struct {
		name, yaml, keys, args string
		code                   int
		stderr                 string // its first line; "": there is none
	}{
		{name: "no command", args: "", code: 0},
		{name: "unknown command", args: "nosuch", code: 2, stderr: "relay: unknown command \"nosuch\": `relay --help` lists them"},
		{name: "mistyped command", args: "srve", code: 2, stderr: `relay: unknown command "srve": did you mean "serve"?`},
		{name: "a key for a command", args: "sk-or-v1-0123456789abcdef", code: 2, stderr: "relay: unknown command \"sk-or-v1-012\": `relay --help` lists them"},
		{name: "unknown flag", args: "serve --nosuch", code: 2, stderr: "relay: unknown flag: --nosuch: `relay serve --help` lists the flags"},
		{name: "flag without value", args: "serve --config", code: 2, stderr: "relay: flag needs an argument: --config: `relay serve --help` lists the flags"},
		{name: "surplus argument", args: "version now", code: 2, stderr: `relay: relay version takes no arguments, and "now" is one: ` + "`relay version --help` lists its flags"},

		{name: "serve without a file", args: "serve", code: 78, stderr: "relay: relay.yaml: " + missing},
		{name: "serve, a mistake", yaml: "lisen: 127.0.0.1:0\n" + goodYAML, args: "serve", code: 78,
			stderr: `relay: relay.yaml:1: unknown key "lisen": did you mean "listen"?`},
		{name: "serve, broken keys", yaml: goodYAML, keys: "keys: [}\n", args: "serve", code: 78,
			stderr: "relay: open the keys: keys.yaml: not YAML: did not find expected node content"},
		{name: "serve, port in use", yaml: "listen: " + inUse + "\n" + goodYAML, args: "serve", code: 1,
			stderr: "relay: open listen: listen tcp " + inUse + ": bind: address already in use: end the process that listens there (`ss -ltnp` names it), or change listen"},
		{name: "serve, admin port in use", yaml: "listen: 127.0.0.1:0\nadmin: {listen: \"" + inUse + "\"}\n" + strings.TrimPrefix(goodYAML, "admin: {listen: \"\"}\n"), args: "serve", code: 1,
			stderr: "relay: open admin.listen: listen tcp " + inUse + ": bind: address already in use: end the process that listens there (`ss -ltnp` names it), or change admin.listen"},
		{name: "demo, port in use", args: "demo --once --listen " + inUse, code: 1,
			stderr: "relay: open listen: listen tcp " + inUse + ": bind: address already in use: end the process that listens there (`ss -ltnp` names it), or change listen"},

		{name: "check, valid", yaml: goodYAML, args: "check", code: 0},
		{name: "check without a file", args: "check", code: 78, stderr: "relay.yaml: " + missing},
		{name: "check, a mistake", yaml: goodYAML + "timeouts: {idle: 5}\n", args: "check", code: 78,
			stderr: "relay.yaml:4: timeouts.idle: a duration needs a unit: write ms, s, m, h or d after the number"},
		{name: "check, ClickHouse out of reach", yaml: goodYAML + "clickhouse: {address: \"" + nobody + "\"}\n", args: "check --online", code: 69,
			stderr: "upstream sim: 127.0.0.1:1 is out of reach: dial tcp 127.0.0.1:1: connect: connection refused"},
		{name: "migrate without ClickHouse", yaml: goodYAML, args: "migrate", code: 78, stderr: "relay: relay.yaml names no ClickHouse: set clickhouse.address"},
		{name: "migrate, nobody there", yaml: goodYAML + "clickhouse: {address: \"" + nobody + "\"}\n", args: "migrate", code: 69,
			stderr: "relay: clickhouse " + nobody + ": nothing listens there (connection refused): start ClickHouse, or correct clickhouse.address; the native port is usually 9000, 9440 with TLS"},
		{name: "logs alone", args: "logs", code: 2, stderr: "relay: want one of: tail, query, usage, export, body, replay"},
		{name: "an argument too many", args: "serve relay.yaml", code: 2, stderr: `relay: relay serve takes no arguments, and "relay.yaml" is one: ` + "`relay serve --help` lists its flags"},
		{name: "logs, an argument too many", args: "logs query today", code: 2, stderr: `relay: relay logs query takes no arguments, and "today" is one: ` + "`relay logs query --help` lists its flags"},
		{name: "logs, mistyped", args: "logs qery", code: 2, stderr: `relay: unknown command "qery": did you mean "query"? want one of: tail, query, usage, export, body, replay`},
		{name: "logs of nothing", yaml: goodYAML, args: "logs query", code: 1, stderr: "relay: there is no request log in data/request-log: a relay that has served a request makes it"},
		{name: "logs, bad time", yaml: goodYAML, args: "logs query --since yesterday", code: 2,
			stderr: "relay: --since: want how long ago (90m, 7d), a day (2026-11-24) or a time (2026-11-24T18:30:00Z), all in UTC"},
		{name: "check, upstream out of reach", yaml: strings.Replace(goodYAML, "127.0.0.1:1/v1", nobody+"/v1", 1), args: "check --online", code: 69,
			stderr: "upstream sim: " + nobody + " is out of reach: dial tcp " + nobody + ": connect: connection refused"},
		{name: "check, two outputs", yaml: goodYAML, args: "check --print --json", code: 2,
			stderr: "relay: --print and --json do not go together: use one of them"},

		{name: "keys alone", args: "keys", code: 2, stderr: "relay: want one of: create, list, show, update, disable, enable, revoke, import, export, tenant, adopt"},
		{name: "keys, mistyped", args: "keys crate", code: 2, stderr: `relay: relay keys: did you mean "create"? want one of: create, list, show, update, disable, enable, revoke, import, export, tenant, adopt`},
		{name: "keys, no name in it", args: "keys create --name=", code: 2, stderr: "relay: --name: want 1 to 64 bytes of printable text without a space at either end"},
		{name: "top of nobody", args: "top --once --url http://" + nobody, code: 1,
			stderr: "relay: ask the relay: Get \"http://" + nobody + "/live/state\": dial tcp " + nobody + ": connect: connection refused: start the relay, or give --url what its admin.listen says"},
		{name: "keys of no file", args: "keys --file keys.yaml list", code: 1, stderr: `relay: keys file "keys.yaml" does not exist; "relay keys create" makes it`},
		{name: "keys, bad tenant", args: "keys create --tenant a/b", code: 2,
			stderr: "relay: --tenant: want 1 to 64 of the characters A-Z a-z 0-9 . _ -, or * alone for any tenant"},
		{name: "keys, a key as argument", args: "keys revoke sk-relay-0EaZ8bV5xO5EfAsEVKDm7kGbHz3jkIZztKneeh0pydV3KCLBQ", code: 2,
			stderr: "relay: relay keys revoke: want an id or a name, and this looks like a key (not repeated here): arguments can be seen by other users and stay in the shell's history"},
		{name: "keys, unknown id", keys: "keys: []\n", args: "keys --file keys.yaml revoke nosuch", code: 1,
			stderr: `relay: no key has this id or name; "relay keys list" shows them`},
		{name: "keys, broken file", keys: "keys: 1\n", args: "keys --file keys.yaml list", code: 78, stderr: `relay: keys.yaml:1: keys: want a list`},
		{name: "keys, broken configuration", yaml: "keys: {store: floppy}\n", args: "keys list", code: 78,
			stderr: "relay: relay.yaml:1: keys.store: unknown value: write file or redis"},

		{name: "healthcheck of nobody", args: "healthcheck --address " + nobody, code: 1,
			stderr: `relay: ask ` + nobody + `: Get "http://localhost/healthz": dial tcp ` + nobody + `: connect: connection refused`},
		{name: "simulate, port in use", args: "simulate --listen " + inUse, code: 1,
			stderr: `relay: listen on "` + inUse + `": listen tcp ` + inUse + `: bind: address already in use`},
		{name: "simulate, bad profile", args: "simulate --profile nosuch=1", code: 2, stderr: `relay: --profile: X-Simulate nosuch="1": unknown key`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := tempDir(t)
			if c.yaml != "" {
				writeFile(t, filepath.Join(dir, "relay.yaml"), c.yaml)
			}
			if c.keys != "" {
				writeFile(t, filepath.Join(dir, "keys.yaml"), c.keys)
			}
			r := run(t, dir, strings.Fields(c.args)...)
			if r.code != c.code {
				t.Errorf("exit code %d, want %d", r.code, c.code)
			}
			if got := firstLine(r.stderr); got != c.stderr {
				t.Errorf("first line of stderr\n got: %s\nwant: %s", got, c.stderr)
			}
			if t.Failed() {
				t.Logf("stdout:\n%s\nstderr:\n%s", r.stdout, r.stderr)
			}
		})
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	r := run(t, dir, "version")
	if want := regexp.MustCompile(`^relay \S+ \(\S+, go\S+, ` + runtime.GOOS + `/` + runtime.GOARCH + `\)\n$`); r.code != 0 || r.stderr != "" || !want.MatchString(r.stdout) {
		t.Errorf("version: exit code %d, stdout %q, stderr %q", r.code, r.stdout, r.stderr)
	}
	r = run(t, dir, "version", "--json")
	var v map[string]string
	if err := json.Unmarshal([]byte(r.stdout), &v); err != nil || r.code != 0 || r.stderr != "" {
		t.Fatalf("version --json: exit code %d, %v, stdout %q, stderr %q", r.code, err, r.stdout, r.stderr)
	}
	for _, name := range []string{"version", "revision", "go", "os", "arch"} {
		if v[name] == "" {
			t.Errorf("version --json has no %s: %s", name, r.stdout)
		}
	}
}

// TestCompletionScriptsAreWhole: each shell that is there parses its own.
func TestCompletionScriptsAreWhole(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish"} {
		t.Run(shell, func(t *testing.T) {
			r := run(t, tempDir(t), "completion", shell)
			if r.code != 0 || r.stderr != "" || !strings.Contains(r.stdout, "relay") || strings.Count(r.stdout, "\n") < 20 {
				t.Fatalf("exit code %d, stderr %q, stdout %q", r.code, r.stderr, r.stdout)
			}
			path, err := exec.LookPath(shell)
			if err != nil {
				t.Logf("no %s here: its script was not parsed", shell)
				return
			}
			cmd := exec.Command(path, "-n")
			cmd.Stdin = strings.NewReader(r.stdout)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s -n: %v\n%s", shell, err, out)
			}
		})
	}
}

// TestHealthcheck asks both listeners and a socket; a relay that drains is
// alive and not ready.
func TestHealthcheck(t *testing.T) {
	t.Parallel()
	up := holdStreams(t)
	r := startRelay(t, up.addr, "")
	for _, args := range [][]string{{"--address", r.addr}, {"--address", r.addr, "--ready"}, {"--address", r.admin, "--ready"}} {
		got := run(t, r.dir, append([]string{"healthcheck"}, args...)...)
		want := "ok\n"
		if len(args) == 3 {
			want = "ready\n"
		}
		if got.code != 0 || got.stdout != want || got.stderr != "" {
			t.Errorf("healthcheck %v: exit code %d, stdout %q, stderr %q", args, got.code, got.stdout, got.stderr)
		}
	}
	res := r.stream()
	defer res.Body.Close()
	r.signal(sigterm)
	eventually(t, "not ready while it drains", func() bool {
		got := run(t, r.dir, "healthcheck", "--address", r.admin, "--ready")
		return got.code == 1 && got.stderr == "relay: "+r.admin+" answers 503: draining\n"
	})
	if got := run(t, r.dir, "healthcheck", "--address", r.admin); got.code != 0 {
		t.Errorf("healthcheck while it drains: exit code %d, stderr %q", got.code, got.stderr)
	}
	up.letGo()
	if _, err := eventsOf(res.Body).rest(); err != errEnd {
		t.Errorf("the open stream ends with %v", err)
	}
	r.mustExit(0)
}
