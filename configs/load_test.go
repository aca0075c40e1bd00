package configs

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

const oneUpstream = `
upstreams:
  - name: first
    base_url: https://api.example.com/v1
    dialect: openai
`

func TestDefaultsStandWhereTheFileSaysNothing(t *testing.T) {
	got, err := Parse("relay.yaml", []byte(oneUpstream), testEnv)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	upstream := defaultUpstream(want)
	upstream.Name, upstream.BaseURL, upstream.Dialect = "first", "https://api.example.com/v1", OpenAI
	want.Upstreams = []Upstream{upstream}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestUpstreamInheritsTimeoutsKeyByKey(t *testing.T) {
	// The general section stands after the upstreams that inherit it.
	got, err := Parse("relay.yaml", []byte(oneUpstream+"    timeouts: {idle: 7s, total: 0}\ntimeouts: {connect: 1s, total: 9m}\n"), testEnv)
	if err != nil {
		t.Fatal(err)
	}
	want := Default().Timeouts
	want.Connect, want.Idle, want.Total = time.Second, 7*time.Second, 0
	if got.Upstreams[0].Timeouts != want {
		t.Errorf("got %+v, want %+v", got.Upstreams[0].Timeouts, want)
	}
}

func TestLoadHoldsEverySecretAndParseOpensNoFile(t *testing.T) {
	text := `
admin: {listen: "0.0.0.0:9090", token_file: testdata/secret}
redis: {password_file: testdata/secret}
clickhouse: {password_file: testdata/secret.crlf}` + oneUpstream + `    credentials:
      - value: ${SECRET}
      - value: inline
      - value_file: ${CREDENTIALS_DIRECTORY}/secret
      - value_file: testdata/secret.crlf
`
	path := writeFile(t, text, 0o600)
	secrets := func(c *Config) []string {
		list := []string{c.Admin.Token.Reveal(), c.Redis.Password.Reveal(), c.ClickHouse.Password.Reveal()}
		for _, credential := range c.Upstreams[0].Credentials {
			list = append(list, credential.Value.Reveal())
		}
		return list
	}
	loaded, warnings, err := Load(path, testEnv)
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	want := []string{planted + "-file", planted + "-file", planted + "-crlf", planted + "-variable", "inline", planted + "-file", planted + "-crlf"}
	if got := secrets(loaded); !reflect.DeepEqual(got, want) {
		t.Errorf("Load: %q, want %q", got, want)
	}
	parsed, err := Parse(path, []byte(text), testEnv)
	if err != nil {
		t.Fatal(err)
	}
	want = []string{"", "", "", planted + "-variable", "inline", "", ""}
	if got := secrets(parsed); !reflect.DeepEqual(got, want) {
		t.Errorf("Parse: %q, want %q", got, want)
	}
}

func TestKeysAreReadWithoutTheRest(t *testing.T) {
	none := func(string) (string, bool) { return "", false }
	rest := "\nlimits: {max_body: \"${NONE}\"}\nupstreams: [{name: x, credentials: [{value: \"${NONE}\"}]}]\nlistn: x\n"
	t.Chdir("testdata")
	load := func(text string) (Keys, Redis, error) {
		path := filepath.Join(t.TempDir(), "relay.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return LoadKeys(path, none)
	}
	keys, redis, err := load("keys: {file: other.yaml, pepper_file: secret}\nredis: {addresses: [\"unix:/run/redis\"], password_file: secret}" + rest)
	if err != nil || keys.File != "other.yaml" || keys.Store != "file" || keys.Pepper.IsZero() || redis.Password.IsZero() || redis.Addresses[0] != "unix:/run/redis" {
		t.Errorf("got %+v, %+v, %v", keys, redis, err)
	}
	for text, want := range map[string]string{
		"keys: {file: \"${NONE}\"}":                     "relay.yaml:1: keys.file: the variable NONE is not set: set it, or give a default as ${NONE:-default}",
		"keys: {store: memory, fil: x}":                 "relay.yaml:1: keys: unknown key \"fil\": did you mean \"file\"?\nrelay.yaml:1: keys.store: unknown value: write file or redis",
		"keys: {file: \"\"}":                            "relay.yaml:1: keys.file: no file: name the file that holds the keys, such as keys.yaml",
		"redis: {addresses: [x]}\nkeys: {store: redis}": "relay.yaml:1: redis.addresses[0]: not an address: write host:port, such as 127.0.0.1:8080 or [::1]:8080",
		"kyes: {store: redis}":                          "relay.yaml:1: unknown key \"kyes\": did you mean \"keys\"?",
		"keys: {file: x}\nkeys: {file: y}":              "relay.yaml:2: duplicate key \"keys\", first given on line 1: remove one of them",
		"keys: {file: x}\n---\nkeys: {}":                "relay.yaml:2: a second document begins here: the configuration is one document; remove the --- or ... and what follows",
	} {
		_, _, err := load(text)
		if err == nil {
			t.Errorf("%s: no error", text)
			continue
		}
		if got := regexp.MustCompile(`(?m)^.*/`).ReplaceAllString(err.Error(), ""); got != want {
			t.Errorf("%s:\ngot  %v\nwant %s", text, got, want)
		}
	}
}

func TestWarnsOfInlineSecretsInAFileThatOthersMayRead(t *testing.T) {
	text := "redis: {password: literal}" + oneUpstream + `    credentials:
      - value: literal
      - value: ${SECRET}
    headers:
      set: {X-Title: relay, X-Api-Key: literal}
`
	for _, c := range []struct {
		mode os.FileMode
		want string
	}{
		{0o600, ""}, {0o611, ""},
		{0o640, `redis.password upstreams[0].credentials[0].value upstreams[0].headers.set["X-Api-Key"]`},
		{0o604, `redis.password upstreams[0].credentials[0].value upstreams[0].headers.set["X-Api-Key"]`},
	} {
		_, warnings, err := Load(writeFile(t, text, c.mode), testEnv)
		if err != nil {
			t.Fatal(err)
		}
		var paths []string
		for _, w := range warnings {
			if !strings.Contains(w.Message, "others may read") {
				t.Errorf("another warning: %v", w)
			}
			paths = append(paths, w.Path)
		}
		if got := strings.Join(paths, " "); got != c.want {
			t.Errorf("mode %o: warned of %q, want %q", c.mode, got, c.want)
		}
	}
}

func TestConfigurationThatCannotBeReadIsAProblemOfTheFile(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "relay.yaml")
	folder := t.TempDir()
	large := writeFile(t, "#"+strings.Repeat("x", maxFile), 0o600)
	for path, want := range map[string]string{
		missing: missing + ": cannot read the configuration: no such file or directory: name another file with --config",
		folder:  folder + ": cannot read the configuration: it is a folder: name another file with --config",
		large:   large + ": the file is larger than 4MiB: split the relay or shorten the file",
	} {
		_, _, err := Load(path, nil)
		var problems *Problems
		if !errors.As(err, &problems) || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

func TestEnvironmentIsTheProcessesUnlessGiven(t *testing.T) {
	t.Setenv("RELAY_TEST_LISTEN", "127.0.0.1:1234")
	c, err := Parse("relay.yaml", []byte("listen: ${RELAY_TEST_LISTEN}\n"+oneUpstream), nil)
	if err != nil || c.Listen != "127.0.0.1:1234" {
		t.Errorf("got %v, %v", c, err)
	}
}

func TestVariablesAreExpandedOnce(t *testing.T) {
	env := func(name string) (string, bool) {
		v, ok := map[string]string{"A": "${B}$$", "B": "b", "EMPTY": ""}[name]
		return v, ok
	}
	for _, c := range []struct {
		in, want string
		used     bool
		err      error
	}{
		{"plain", "plain", false, nil},
		{"${A}", "${B}$$", true, nil},
		{"x${B}y${B}z", "xbybz", true, nil},
		{"$${B}", "${B}", false, nil},
		{"$$$$${B}", "$$b", true, nil},
		{"$B $ 5$", "$B $ 5$", false, nil},
		{"${EMPTY}", "", true, nil},
		{"${EMPTY:-x}", "x", true, nil},
		{"${NONE:-}", "", true, nil},
		{"${NONE:-a:-b}", "a:-b", true, nil},
		{"${B:-x}", "b", true, nil},
		{"${", "", false, errVariableOpen},
		{"${B", "", false, errVariableOpen},
		{"${ B}", "", false, errVariableName},
		{"${B-x}", "", false, errVariableName},
		{"${9}", "", false, errVariableName},
	} {
		got, used, err := expand(c.in, env)
		if got != c.want || used != c.used || err != c.err {
			t.Errorf("expand(%q) = %q, %v, %v; want %q, %v, %v", c.in, got, used, err, c.want, c.used, c.err)
		}
		if err == nil {
			if back, _, err := expand(escape(got), env); back != got || err != nil {
				t.Errorf("expand(escape(%q)) = %q, %v", got, back, err)
			}
		}
	}
	if _, _, err := expand("secret${NONE}secret", env); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a variable that is not set: %v", err)
	}
}

func writeFile(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "relay.yaml")
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
	return path
}

func TestACredentialThatWasMeantAsAVariableIsWarnedOf(t *testing.T) {
	for value, want := range map[string]bool{"$OPENAI_API_KEY": true, "$_KEY": true, "sk-1": false, "$": false, "$1": false, "a$KEY": false} {
		file := filepath.Join(t.TempDir(), "relay.yaml")
		if err := os.WriteFile(file, []byte("upstreams:\n  - name: up\n    dialect: openai\n    base_url: https://127.0.0.1/v1\n    credentials: [{value: '"+value+"'}]\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, warnings, err := Load(file, func(string) (string, bool) { return "", false })
		if err != nil {
			t.Fatal(err)
		}
		if got := len(warnings) == 1 && warnings[0].Path == "upstreams[0].credentials[0].value" && strings.Contains(warnings[0].Message, "${NAME}"); got != want || len(warnings) > 1 {
			t.Errorf("%s: %v", value, warnings)
		}
	}
}
