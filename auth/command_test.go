package auth

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// result is what a command left behind.
type result struct {
	stdout, stderr string
	err            error
}

func keysCommand(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	cmd := KeysCommand()
	cmd.SilenceErrors = true
	var stdout, stderr bytes.Buffer
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetOut(&stdout)
	cmd.SetErr(&stderr)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return result{stdout.String(), stderr.String(), err}
}

func ok(t *testing.T, r result) result {
	t.Helper()
	if r.err != nil {
		t.Fatalf("%v\n%s", r.err, r.stderr)
	}
	return r
}

func TestCreatePrintsTheKeyOnceAndItWorks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.yaml")
	r := ok(t, keysCommand(t, "", "create", "--file", path, "--name", "alice", "--tenant", "acme", "--tenant", "beta",
		"--model", "gpt-*", "--expires", "30d"))
	key := strings.TrimSuffix(r.stdout, "\n")
	if ours, good := CheckForm([]byte(key)); !ours || !good {
		t.Errorf("standard output is %q, want the key alone", r.stdout)
	}
	if strings.Contains(r.stderr, key) {
		t.Error("the key was printed twice")
	}
	s, _ := opened(t, path)
	record, status := s.Table().lookup([]byte(key), time.Now().Unix())
	if status != Found || record.Name != "alice" || strings.Join(record.Tenants, " ") != "acme beta" ||
		!record.AllowsModel([]byte("gpt-4o")) || record.AllowsModel([]byte("o1")) {
		t.Errorf("%v, %+v", status, record)
	}
	if left := time.Until(record.Expires); left > 30*24*time.Hour || left < 29*24*time.Hour {
		t.Errorf("expires in %v", left)
	}
}

func TestCreateJSON(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.yaml")
	r := ok(t, keysCommand(t, "", "create", "--file", path, "--json"))
	shape := regexp.MustCompile(`^\{"id":"(key_[0-9A-Za-z]{12})","key":"sk-relay-[0-9A-Za-z]{49}","name":"(key_[0-9A-Za-z]{12})","tenants":\["default"\]\}\n$`)
	if m := shape.FindStringSubmatch(r.stdout); m == nil || m[1] != m[2] {
		t.Errorf("got %s", r.stdout)
	}
	if r.stderr != "" {
		t.Errorf("standard error: %s", r.stderr)
	}
}

func TestListAndShow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.yaml")
	write(t, path, `keys:
  - {id: key_1, name: alice, digest: "`+digestA+`", tenants: [acme, beta], models: [gpt-*], created: 2026-01-02, expires: 2999-01-02, metadata: {team: a}}
  - {id: key_2, digest: "`+digestB+`", tenants: ['*'], disabled: true, revoked: 2026-02-03T04:05:06Z}
  - {id: key_3, digest: "`+strings.ReplaceAll(digestA, "aaaa", "cccc")+`", expires: 2001-01-01}
`)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ args, want string }{
		{"list", `ID     NAME   STATE    TENANTS    MODELS  CREATED               EXPIRES               LIMITS
key_1  alice  active   acme,beta  gpt-*   2026-01-02T00:00:00Z  2999-01-02T00:00:00Z  none
key_2  key_2  revoked  *          all     unknown               never                 none
key_3  key_3  expired  default    all     unknown               2001-01-01T00:00:00Z  none
`},
		{"list --json", `[{"id":"key_1","name":"alice","state":"active","tenants":["acme","beta"],"models":["gpt-*"],"created":"2026-01-02T00:00:00Z","expires":"2999-01-02T00:00:00Z","disabled":false,"metadata":{"team":"a"}},` +
			`{"id":"key_2","name":"key_2","state":"revoked","tenants":["*"],"models":[],"disabled":true,"revoked":"2026-02-03T04:05:06Z"},` +
			`{"id":"key_3","name":"key_3","state":"expired","tenants":["default"],"models":[],"expires":"2001-01-01T00:00:00Z","disabled":false}]
`},
		{"show alice", `id             key_1
name           alice
state          active
tenants        acme, beta
models         gpt-*
paths          all
limits         none
created        2026-01-02T00:00:00Z
expires        2999-01-02T00:00:00Z
metadata team  "a"
`},
		{"show key_2 --json", `{"id":"key_2","name":"key_2","state":"revoked","tenants":["*"],"models":[],"disabled":true,"revoked":"2026-02-03T04:05:06Z"}
`},
	} {
		got := ok(t, keysCommand(t, "", append(strings.Fields(test.args), "--file", path)...)).stdout
		if got != test.want {
			t.Errorf("%s: got\n%s\nwant\n%s", test.args, got, test.want)
		}
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("reading changed the file: %v", err)
	}
}

func TestRevokeByIDAndByName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.yaml")
	var made struct{ ID, Key string }
	if err := json.Unmarshal([]byte(ok(t, keysCommand(t, "", "create", "--json", "--file", path)).stdout), &made); err != nil {
		t.Fatal(err)
	}
	named := create(t, path, "alice")
	ok(t, keysCommand(t, "", "revoke", made.ID, "--file", path))
	ok(t, keysCommand(t, "", "revoke", "alice", "--file", path))
	s, _ := opened(t, path)
	if a, b := status(s, made.Key), status(s, named); a != Revoked || b != Revoked {
		t.Errorf("%v, %v", a, b)
	}
	first := ok(t, keysCommand(t, "", "show", "alice", "--file", path)).stdout
	again := ok(t, keysCommand(t, "", "revoke", "alice", "--file", path))
	if !strings.Contains(again.stderr, "was revoked at") {
		t.Errorf("a second time: %q", again.stderr)
	}
	if second := ok(t, keysCommand(t, "", "show", "alice", "--file", path)).stdout; first != second {
		t.Errorf("the record changed:\n%s\n%s", first, second)
	}
	// A revoked key is not let in again by way of import.
	r := keysCommand(t, named+"\n", "import", "-", "--file", path)
	if exitCode(r.err) != 1 || !strings.Contains(r.err.Error(), "the key was revoked, as key_") || strings.Contains(r.err.Error(), named) {
		t.Errorf("import of a revoked key: %v", r.err)
	}
}

func TestImportTakesKeysOfAnyForm(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.yaml")
	ours := Generate()
	keys := []string{"sk-relay-test-key-123", ours, "x", "sk-proj-" + strings.Repeat("A_-", 50), strings.Repeat("k", maxKeyLength), "a=b&c%/+"}
	r := ok(t, keysCommand(t, " "+strings.Join(keys, "  \r\n\n")+"\n", "import", "-", "--name", "old", "--tenant", "*", "--file", path))
	s, _ := opened(t, path)
	for i, key := range keys {
		record, status := s.Table().lookup([]byte(key), time.Now().Unix())
		if status != Found || !strings.Contains(r.stdout, record.ID+"\t"+record.Name+"\n") {
			t.Errorf("key %d: %v, %+v", i, status, record)
		}
	}
	if got := ok(t, keysCommand(t, "", "show", "old-3", "--file", path)).stdout; !strings.Contains(got, "tenants  *\n") {
		t.Errorf("got %s", got)
	}
	for _, key := range keys[:2] {
		if strings.Contains(r.stdout+r.stderr, key) {
			t.Error("a key was printed")
		}
	}
}

// What is refused is never repeated, on no stream and in no error.
func TestMistakenCallsAreRefusedWithoutRepeatingAKey(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keys.yaml")
	create(t, path, "alice")
	good := Generate()
	mistyped := good[:keyLength-1] + string(base62[(strings.IndexByte(base62, good[keyLength-1])+1)%62])
	config := func(text string) string {
		file := filepath.Join(dir, "relay.yaml")
		write(t, file, "upstreams: [{name: a, base_url: 'http://127.0.0.1:1/v1', dialect: openai, credentials: [{value: x}]}]\n"+text)
		return file
	}
	for _, test := range []struct {
		name  string
		stdin string
		args  []string
		code  int
		want  string // in the error
	}{
		{"no command", "", []string{}, 2, "want one of: create, list, show, update, disable, enable, revoke, import, export, tenant, adopt"},
		{"no such command", "", []string{good}, 2, "want one of"},
		{"a key to create", "", []string{"create", good}, 2, "takes no arguments"},
		{"a key as name", "", []string{"create", "--name", good}, 2, "--name: looks like a raw key"},
		{"a key as tenant", "", []string{"create", "--tenant", good}, 2, "--tenant: looks like a raw key"},
		{"a tenant twice", "", []string{"create", "--tenant", "a", "--tenant", "a"}, 2, `--tenant: "a" is given twice`},
		{"an empty model", "", []string{"create", "--model", ""}, 2, "--model: want 1 to 256"},
		{"a key as expiry", "", []string{"create", "--expires", good}, 2, "--expires: want a time from now such as 30d"},
		{"an expiry without unit", "", []string{"create", "--expires", "30"}, 2, "--expires: want a time from now such as 30d"},
		{"an expiry in the past", "", []string{"create", "--expires", "2020-01-01"}, 2, "--expires: lies in the past"},
		{"a key as flag", "", []string{"create", "--" + good}, 2, "a flag is not known"},
		{"a key as short flags", "", []string{"create", "-" + good}, 2, "a flag is not known"},
		{"an unknown flag", "", []string{"create", "--nope"}, 2, "unknown flag: --nope"},
		{"a taken name", "", []string{"create", "--name", "alice"}, 1, `the name "alice" is taken`},
		{"nothing to show", "", []string{"show"}, 2, "want one id or name"},
		{"a key to show", "", []string{"show", good}, 2, "this looks like a key"},
		{"a key to revoke", "", []string{"revoke", "SK-other-key"}, 2, "this looks like a key"},
		{"two to revoke", "", []string{"revoke", "alice", good}, 2, "want one id or name"},
		{"nobody to revoke", "", []string{"revoke", "q3jx9-a-key-of-another-form"}, 1, "no key has this id or name"},
		{"nobody to show", "", []string{"show", "q3jx9-a-key-of-another-form"}, 1, "no key has this id or name"},
		{"import without -", good, []string{"import"}, 2, "keys are read from standard input"},
		{"import of an argument", "", []string{"import", good}, 2, "keys are read from standard input"},
		{"import of a foreign argument", "", []string{"import", "q3jx9-a-key-of-another-form"}, 2, "keys are read from standard input"},
		{"import of nothing", " \n\n", []string{"import", "-"}, 2, "standard input holds no key"},
		{"import of a mistyped key", "a\n" + mistyped, []string{"import", "-"}, 1, "line 2 of the input: it has the form of a relay key, but its checksum digits are wrong"},
		{"import of two words", "sk-a sk-b", []string{"import", "-"}, 1, "line 1 of the input: a key is at most 512 visible ASCII characters"},
		{"import of a long key", name(maxKeyLength + 1), []string{"import", "-"}, 1, "line 1 of the input: a key is at most 512"},
		{"import of a longer key", name(1 << 20), []string{"import", "-"}, 1, "a line that is too long"},
		{"import of a key twice", "sk-a\nsk-a", []string{"import", "-"}, 1, "key 2 of the input: the key is there already"},
		{"no such file", "", []string{"list", "--file", path + "x"}, 1, `"relay keys create" makes it`},
		{"no such configuration", "", []string{"list", "--file", "", "--config", path + "x"}, 78, "no such file"},
		{"a broken configuration", "", []string{"list", "--file", "", "--config", config("keys: {store: file, fil: x}\n")}, 78, "unknown key"},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := append([]string{"--file", path}, test.args...)
			r := keysCommand(t, test.stdin, args...)
			if r.err == nil || exitCode(r.err) != test.code || !strings.Contains(r.err.Error(), test.want) {
				t.Fatalf("exit %d, %v; want %d, %q", exitCode(r.err), r.err, test.code, test.want)
			}
			for _, secret := range []string{good, good[len(keyPrefix):], mistyped, "q3jx9", "SK-other", "sk-a"} {
				if strings.Contains(r.err.Error()+r.stdout+r.stderr, secret) {
					t.Errorf("repeats %q: %v %s %s", secret, r.err, r.stdout, r.stderr)
				}
			}
		})
	}
	if got := ids(t, path); len(got) != 1 {
		t.Errorf("%d keys in the file, want the one of before", len(got))
	}
}

func TestTheConfigurationNamesTheFile(t *testing.T) {
	t.Chdir(t.TempDir())
	const upstreams = "upstreams: [{name: a, base_url: 'http://127.0.0.1:1/v1', dialect: openai, credentials: [{value: '${AUTH_TEST_NOT_SET}'}, {value_file: /nowhere}]}]\n"

	// Neither flag nor configuration: the default, and it is said.
	r := ok(t, keysCommand(t, "", "create", "--name", "default"))
	if !strings.Contains(r.stderr, "no relay.yaml here: using keys.yaml") {
		t.Errorf("standard error: %q", r.stderr)
	}
	// The provider's credentials need not be at hand.
	write(t, "relay.yaml", upstreams+"keys: {file: from-config.yaml}\n")
	ok(t, keysCommand(t, "", "create", "--name", "config"))
	write(t, "other.yaml", upstreams+"keys: {file: '${AUTH_TEST_DIR}/keys.yaml'}\n")
	r = keysCommand(t, "", "create", "--config", "other.yaml")
	if exitCode(r.err) != 78 || !strings.Contains(r.err.Error(), "keys.file: the variable AUTH_TEST_DIR is not set") {
		t.Errorf("a variable that is not set: %v", r.err)
	}
	t.Setenv("AUTH_TEST_DIR", ".")
	write(t, "keys.yaml", "keys: []\n")
	ok(t, keysCommand(t, "", "create", "--config", "other.yaml", "--name", "other"))
	// --file goes before the configuration, which is not even read.
	ok(t, keysCommand(t, "", "create", "--config", "missing.yaml", "--file", "from-config.yaml", "--name", "file"))

	for file, want := range map[string]string{"keys.yaml": "other", "from-config.yaml": "config file"} {
		records, err := readFile(file)
		var names []string
		for _, r := range records {
			names = append(names, r.Name)
		}
		if got := strings.Join(names, " "); err != nil || got != want {
			t.Errorf("%s holds %q, want %q; %v", file, got, want, err)
		}
	}
	// Nor need the password of a Redis that is not used.
	write(t, "unused.yaml", upstreams+"keys: {file: keys.yaml}\nredis: {password: '${AUTH_TEST_NOT_SET}'}\n")
	ok(t, keysCommand(t, "", "list", "--config", "unused.yaml"))
	write(t, "redis.yaml", upstreams+"keys: {store: redis}\nredis: {addresses: ['127.0.0.1:1']}\n")
	r = keysCommand(t, "", "list", "--config", "redis.yaml")
	if exitCode(r.err) != 69 || !strings.Contains(r.err.Error(), "connect to redis: ") {
		t.Errorf("redis: %v", r.err)
	}
}
