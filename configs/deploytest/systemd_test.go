package deploytest

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var units = filepath.Join(root, "configs", "systemd")

// installed runs `make install` into a new folder, with a file that prints
// nothing in the binary's place.
func installed(t *testing.T, args ...string) (dir string) {
	t.Helper()
	needs(t, "make", "install", "sed")
	dir = t.TempDir()
	fake := filepath.Join(t.TempDir(), "relay")
	write(t, fake, "#!/bin/sh\n")
	run(t, root, nil, "make", append([]string{"--silent", "install", "DESTDIR=" + dir, "BINARY=" + fake}, args...)...)
	return dir
}

func files(t *testing.T, dir string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			found = append(found, strings.TrimPrefix(path, dir))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestInstallLaysDownAndUninstallTakesAway(t *testing.T) {
	dir := installed(t)
	found := files(t, dir)
	for _, want := range []string{
		"/usr/bin/relay", "/usr/sbin/relay-rollover", "/usr/lib/systemd/system/relay.socket", "/usr/lib/systemd/system/relay@.service",
		"/usr/lib/sysusers.d/relay.conf", "/usr/lib/tmpfiles.d/relay.conf", "/usr/share/doc/relay/relay.reference.yaml",
		"/etc/relay/relay.yaml", "/etc/relay/blue.env", "/etc/relay/green.env",
	} {
		if !slices.Contains(found, want) {
			t.Errorf("%s is not installed; there are %v", want, found)
		}
	}
	settings := filepath.Join(dir, "etc", "relay", "relay.yaml")
	write(t, settings, "mine: true\n")
	fake := filepath.Join(dir, "usr", "bin", "relay")
	run(t, root, nil, "make", "--silent", "install", "DESTDIR="+dir, "BINARY="+fakeCopy(t, fake))
	if read(t, settings) != "mine: true\n" {
		t.Error("a second install wrote over the operator's settings")
	}
	run(t, root, nil, "make", "--silent", "uninstall", "DESTDIR="+dir)
	for _, left := range files(t, dir) {
		if !strings.HasPrefix(left, "/etc/relay/") {
			t.Errorf("uninstall leaves %s", left)
		}
	}
}

func fakeCopy(t *testing.T, path string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "relay")
	write(t, to, read(t, path))
	return to
}

func TestInstallBelowAnotherPrefix(t *testing.T) {
	dir := installed(t, "PREFIX=/usr/local")
	unit := read(t, filepath.Join(dir, "usr", "local", "lib", "systemd", "system", "relay@.service"))
	contains(t, "the unit", unit, "ExecStart=/usr/local/bin/relay serve")
	if strings.Contains(unit, "/usr/bin/relay") {
		t.Error("the unit still runs /usr/bin/relay")
	}
}

// TestUnitsAreClean by systemd itself, and the sandbox by its own score.
func TestUnitsAreClean(t *testing.T) {
	needs(t, "systemd-analyze")
	dir := t.TempDir()
	for _, unit := range []string{"relay.socket", "relay@.service"} {
		// verify wants the programs to be there.
		text := strings.ReplaceAll(read(t, filepath.Join(units, unit)), "/usr/bin/relay", "/bin/true")
		write(t, filepath.Join(dir, unit), text)
	}
	for _, instance := range []string{"relay@blue.service", "relay@green.service"} {
		out, err := output(dir, nil, "systemd-analyze", "verify", "--man=no", "--recursive-errors=no", "./relay.socket", "./"+instance)
		if err != nil || strings.TrimSpace(out) != "" {
			t.Errorf("systemd-analyze verify %s: %v\n%s", instance, err, out)
		}
	}
	if out, err := output(dir, nil, "systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=20", "./relay@.service"); err != nil {
		t.Errorf("systemd-analyze security: a score above 2.0: %v\n%s", err, out)
	}
	write(t, filepath.Join(dir, "relay@.service"), strings.Replace(read(t, filepath.Join(dir, "relay@.service")), "Type=notify", "Typ=notify", 1))
	if out, _ := output(dir, nil, "systemd-analyze", "verify", "--man=no", "--recursive-errors=no", "./relay@blue.service"); !strings.Contains(out, "Typ") {
		t.Errorf("verify takes an unknown key: %s", out)
	}
}

// TestServiceConfigurationIsGood: /etc/relay/relay.yaml with the environment and
// the credentials that the units give.
func TestServiceConfigurationIsGood(t *testing.T) {
	credentials := t.TempDir()
	write(t, filepath.Join(credentials, "credential_openai"), "sk-planted\n")
	var admins []string
	for _, instance := range []string{"blue", "green"} {
		env := []string{"CREDENTIALS_DIRECTORY=" + credentials}
		for line := range strings.Lines(read(t, filepath.Join(units, instance+".env"))) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				env = append(env, line)
				admins = append(admins, line)
			}
		}
		checkConfig(t, filepath.Join(units, "relay.yaml"), env)
	}
	if len(admins) != 2 || admins[0] == admins[1] {
		t.Errorf("both instances have the admin listener %v", admins)
	}
}

// TestKernelSettingsExist under the names that the shipped file sets.
func TestKernelSettingsExist(t *testing.T) {
	for line := range strings.Lines(read(t, filepath.Join(units, "90-relay.conf"))) {
		name, _, ok := strings.Cut(line, "=")
		if name = strings.TrimSpace(name); !ok || strings.HasPrefix(name, "#") || strings.HasPrefix(name, "-") {
			continue
		}
		if _, err := os.Stat("/proc/sys/" + strings.ReplaceAll(name, ".", "/")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// fakeSystemctl keeps the states of the instances in files of $STATES, and writes
// down what it is told to change.
const fakeSystemctl = `#!/bin/sh
set -eu
instance() { for a; do :; done; echo "${a#relay@}"; }
i=$(instance "$@")
case " $* " in
*" show --property=ActiveState "*) cat "$STATES/$i" ;;
*" show --property=ActiveEnterTimestampMonotonic "*) cat "$STATES/$i.since" ;;
*" show --property=StatusText "*) echo "draining 3 streams" ;;
*" is-enabled "*) [ -e "$STATES/$i.enabled" ] ;;
*) echo "$*" >> "$STATES/calls"
   case " $* " in
   *" start "*) [ ! -e "$STATES/$i.broken" ] ;;
   esac ;;
esac
`

func TestRolloverStartsTheOtherThenStopsTheFirst(t *testing.T) {
	needs(t, "sh", "flock")
	for _, c := range []struct {
		name, blue, green string
		broken            string // does not come up
		calls             string
		says              string
		fails             bool
	}{
		{name: "blue runs", blue: "active", green: "inactive",
			calls: "start relay@green\n--quiet enable relay@green\n--quiet disable relay@blue\nstop --no-block relay@blue\n", says: "relay@green serves; relay@blue drains"},
		{name: "green runs", blue: "failed", green: "active",
			calls: "start relay@blue\n--quiet enable relay@blue\n--quiet disable relay@green\nstop --no-block relay@green\n", says: "relay@blue serves; relay@green drains"},
		{name: "none runs", blue: "inactive", green: "inactive",
			calls: "start relay@blue\n--quiet enable relay@blue\n", says: "relay@blue serves"},
		{name: "the new one does not come up", blue: "active", green: "inactive", broken: "green",
			calls: "start relay@green\nstop relay@green\n", says: "relay@green did not come up; relay@blue goes on", fails: true},
		{name: "the other still drains", blue: "active", green: "deactivating",
			calls: "start relay@green\n--quiet enable relay@green\n--quiet disable relay@blue\nstop --no-block relay@blue\n", says: "relay@green still drains (draining 3 streams)"},
		{name: "an earlier one was cut short", blue: "active", green: "active", // green is younger
			calls: "stop --no-block relay@blue\nstart relay@blue\n--quiet enable relay@blue\n--quiet disable relay@green\nstop --no-block relay@green\n", says: "relay@blue serves"},
	} {
		t.Run(c.name, func(t *testing.T) {
			states, tools := t.TempDir(), t.TempDir()
			write(t, filepath.Join(states, "blue"), c.blue)
			write(t, filepath.Join(states, "green"), c.green)
			write(t, filepath.Join(states, "blue.since"), "100")
			write(t, filepath.Join(states, "green.since"), "200")
			if c.broken != "" {
				write(t, filepath.Join(states, c.broken+".broken"), "")
			}
			if err := os.WriteFile(filepath.Join(tools, "systemctl"), []byte(fakeSystemctl), 0o755); err != nil {
				t.Fatal(err)
			}
			env := []string{"STATES=" + states, "RUNTIME_DIRECTORY=" + states, "PATH=" + tools + ":" + os.Getenv("PATH")}
			out, err := output(states, env, "sh", mustAbs(t, filepath.Join(units, "relay-rollover")))
			if (err != nil) != c.fails {
				t.Errorf("exit: %v\n%s", err, out)
			}
			contains(t, "what it says", out, c.says)
			if got := read(t, filepath.Join(states, "calls")); got != c.calls {
				t.Errorf("systemctl was told\n%s\nwant\n%s", got, c.calls)
			}
		})
	}
}

func mustAbs(t *testing.T, path string) string {
	t.Helper()
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}
