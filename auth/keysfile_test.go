package auth

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

const (
	digestA = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	digestB = "sha256:BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"
)

func TestKeysFileIsReadInFull(t *testing.T) {
	f, err := parseKeys("keys.yaml", []byte(`# ours
keys:
  - id: key_1
    name: "alice's laptop"
    digest: `+digestA+`
    tenants: [acme, '*']
    models: [gpt-*, "Qwen/*"]
    created: 2026-01-02T03:04:05+01:00
    expires: 2030-01-31
    disabled: true
    revoked: "2027-01-01T00:00:00.5Z"
    metadata:
      team: "42"
      note: |
        two
        lines
  - {id: key_2, digest: `+digestB+`, disabled: false}
`))
	if err != nil {
		t.Fatal(err)
	}
	var a, b Digest
	for i := range a {
		a[i], b[i] = 0xaa, 0xbb
	}
	want := []*Record{
		{
			ID: "key_1", Name: "alice's laptop", Digest: a,
			Tenants: []string{"acme", "*"}, Models: []string{"gpt-*", "Qwen/*"},
			Created: time.Date(2026, 1, 2, 2, 4, 5, 0, time.UTC), Expires: time.Date(2030, 1, 31, 0, 0, 0, 0, time.UTC),
			Disabled: true, Revoked: time.Date(2027, 1, 1, 0, 0, 0, 5e8, time.UTC),
			Metadata: map[string]string{"team": "42", "note": "two\nlines\n"},
		},
		{ID: "key_2", Name: "key_2", Digest: b, Tenants: []string{"default"}},
	}
	if !reflect.DeepEqual(f.records, want) {
		t.Errorf("got %+v\nwant %+v", f.records[0], want[0])
	}
}

func TestFileWithoutKeysIsEmpty(t *testing.T) {
	for _, text := range []string{"", "# nothing yet\n", "---\n", "{}\n", "keys:\n", "keys: []\n", "null\n"} {
		f, err := parseKeys("keys.yaml", []byte(text))
		if err != nil || len(f.records) != 0 {
			t.Errorf("%q: %v, %v", text, f, err)
			continue
		}
		// And a key can be added to each.
		if _, err := f.addKey("k", grant{}, time.Now()); err != nil {
			t.Errorf("%q: %v", text, err)
		}
		data, err := f.encode("keys.yaml")
		if err != nil || !strings.Contains(string(data), "keys:\n  - id: key_") {
			t.Errorf("%q became %q, %v", text, data, err)
		}
	}
}

// Each file holds one mistake; its message names the line and what to do.
func TestMistakesInAKeysFileAreNamed(t *testing.T) {
	entry := func(lines string) string {
		return "keys:\n- id: key_1\n  digest: " + digestA + "\n" + lines
	}
	raw := "sk-relay-this-is-a-raw-key"
	for _, test := range []struct{ name, text, want string }{
		{"unknown key", entry("  tenant: acme\n"), `keys.yaml:4: unknown key "tenant" (known: id, name, digest, tenants, models, paths, limits, created, expires, disabled, revoked, metadata)`},
		{"unknown key above", "key: []\n", `keys.yaml:1: unknown key "key" (known: keys, tenants)`},
		{"key given twice", entry("  name: a\n  name: b\n"), `keys.yaml:5: "name": given already in line 4`},
		{"keys given twice", "keys: []\nkeys: []\n", `keys.yaml:2: "keys": given already in line 1`},
		{"id twice", entry("- id: key_1\n  digest: " + digestB + "\n"), "keys.yaml:4: id \"key_1\": already used in line 2\nkeys.yaml:4: name \"key_1\": already used in line 2"},
		{"digest twice", entry("- id: key_2\n  digest: " + digestA + "\n"), `keys.yaml:4: digest: the same key stands in line 2`},
		{"name twice", entry("  name: a\n- id: key_2\n  name: a\n  digest: " + digestB + "\n"), `keys.yaml:5: name "a": already used in line 2`},
		{"name is an id", entry("- id: key_2\n  name: key_1\n  digest: " + digestB + "\n"), "keys.yaml:4: name \"key_1\": already used in line 2\nkeys.yaml:4: name \"key_1\": is the id of the key in line 2"},
		{"no id", "keys:\n- digest: " + digestA + "\n", `keys.yaml:2: id: is missing`},
		{"no digest", "keys:\n- id: key_1\n", `keys.yaml:2: digest: is missing; add keys with "relay keys create" or "relay keys import -"`},
		{"a raw key as digest", "keys:\n- id: key_1\n  digest: " + raw + "\n", "keys.yaml:3: digest: " + errNotDigest.Error()},
		{"short digest", "keys:\n- id: key_1\n  digest: sha256:aa\n", "keys.yaml:3: digest: " + errNotDigest.Error()},
		{"digest not hex", "keys:\n- id: key_1\n  digest: " + digestA[:70] + "x\n", "keys.yaml:3: digest: " + errNotDigest.Error()},
		{"a raw key as element", "keys:\n- " + raw + "\n", `keys.yaml:2: a key: want keys and values`},
		{"a raw key as key", entry("  " + raw + ": x\n"), `keys.yaml:4: unknown key (not shown) (known: id, name, digest, tenants, models, paths, limits, created, expires, disabled, revoked, metadata)`},
		{"a raw key as name", entry("  name: " + raw + "\n"), `keys.yaml:4: name: looks like a raw key, which must not be stored; give a name`},
		{"a raw key as id", "keys:\n- id: " + raw + "\n  digest: " + digestA + "\n", `keys.yaml:2: id: looks like a raw key, which must not be stored; give a name`},
		{"id ill-formed", "keys:\n- id: a b\n  digest: " + digestA + "\n", `keys.yaml:2: id: want 1 to 64 of the characters A-Z a-z 0-9 . _ -`},
		{"name is a number", entry("  name: 42\n"), `keys.yaml:4: name: want text; put numbers, true, false and dates in quotes`},
		{"name with a line end", entry("  name: \"a\\nb\"\n"), `keys.yaml:4: name: want 1 to 64 bytes of printable text without a space at either end`},
		{"tenants no list", entry("  tenants: acme\n"), `keys.yaml:4: tenants: want a list, such as [a, b]`},
		{"tenant ill-formed", entry("  tenants: [a/b]\n"), `keys.yaml:4: tenants: want 1 to 64 of the characters A-Z a-z 0-9 . _ -, or * alone for any tenant`},
		{"tenants a glob", entry("  tenants: ['a*']\n"), `keys.yaml:4: tenants: want 1 to 64 of the characters A-Z a-z 0-9 . _ -, or * alone for any tenant`},
		{"model with a space", entry("  models: ['a b']\n"), `keys.yaml:4: models: want 1 to 256 printable characters without spaces; * stands for any run of characters`},
		{"expires a duration", entry("  expires: 30d\n"), `keys.yaml:4: expires: want a time such as 2030-01-31T12:00:00Z, or a date`},
		{"expires a number", entry("  expires: 1700000000\n"), `keys.yaml:4: expires: want a time such as 2030-01-31T12:00:00Z, or a date`},
		{"expires nothing", entry("  expires:\n"), `keys.yaml:4: expires: want a time such as 2030-01-31T12:00:00Z, or a date`},
		{"disabled a word", entry("  disabled: yes\n"), `keys.yaml:4: disabled: want true or false`},
		{"metadata no mapping", entry("  metadata: [a]\n"), `keys.yaml:4: metadata: want keys and values`},
		{"metadata a number", entry("  metadata: {a: 1}\n"), `keys.yaml:4: metadata: want text; put numbers, true, false and dates in quotes`},
		{"keys no list", "keys: 1\n", `keys.yaml:1: keys: want a list`},
		{"keys a mapping", "keys: {}\n", `keys.yaml:1: keys: want a list`},
		{"no mapping", "- a\n", `keys.yaml:1: the file: want keys and values`},
		{"a second document", "keys: []\n---\nkeys: []\n", `keys.yaml:2: a second YAML document: there may be only one`},
		{"an alias", entry("  tenants: &t [a]\n- id: key_2\n  digest: " + digestB + "\n  tenants: *t\n"), "keys.yaml:4: anchors and aliases are not allowed\nkeys.yaml:7: anchors and aliases are not allowed"},
		{"an unknown alias", "keys: *" + raw + "\n", `keys.yaml: not YAML: anchors and aliases are not allowed`},
		{"a merge key", entry("  <<: {name: a}\n"), `keys.yaml:4: unknown key "<<" (known: id, name, digest, tenants, models, paths, limits, created, expires, disabled, revoked, metadata)`},
		{"a tab", "keys:\n\t- id: a\n", `keys.yaml:2: not YAML: found character that cannot start any token`},
		{"cut short", "keys: [\n", `keys.yaml:1: not YAML: did not find expected node content`},
		{"not text", "\x00\x01", `keys.yaml: not YAML: control characters are not allowed`},
		{"two mistakes", entry("  name: 1\n  tenants: 2\n"), "keys.yaml:4: name: want text; put numbers, true, false and dates in quotes\nkeys.yaml:5: tenants: want a list, such as [a, b]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := parseKeys("keys.yaml", []byte(test.text))
			var format *FormatError
			if !errors.As(err, &format) || format.ExitCode() != 78 {
				t.Fatalf("got %v, want a *FormatError", err)
			}
			if err.Error() != test.want {
				t.Errorf("got  %s\nwant %s", err, test.want)
			}
			if strings.Contains(err.Error(), raw) {
				t.Error("the error holds a raw key")
			}
		})
	}
}

func TestNumberOfMistakesToldIsBounded(t *testing.T) {
	_, err := parseKeys("keys.yaml", []byte("keys:\n"+strings.Repeat("- x\n", 1000)))
	var format *FormatError
	if !errors.As(err, &format) || len(format.Problems) != maxProblems {
		t.Errorf("got %v", err)
	}
}

func TestEditsLeaveCommentsAndOrderAlone(t *testing.T) {
	f, err := parseKeys("keys.yaml", []byte(`# Kept by the platform team.
keys:
  # The batch jobs.
  - id: key_1
    digest: `+digestA+` # rotated in May
    tenants: [batch] # one only
  - name: second
    id: key_2
    digest: `+digestB+`
    disabled: false # for now
# the end
`))
	if err != nil {
		t.Fatal(err)
	}
	f.revoke(1, time.Date(2026, 5, 6, 7, 8, 9, 10, time.UTC))
	data, err := f.encode("keys.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := `# Kept by the platform team.
keys:
  # The batch jobs.
  - id: key_1
    digest: ` + digestA + ` # rotated in May
    tenants: [batch] # one only
  - name: second
    id: key_2
    digest: ` + digestB + `
    disabled: true # for now
    revoked: 2026-05-06T07:08:09Z
# the end
`
	if string(data) != want {
		t.Errorf("got\n%s\nwant\n%s", data, want)
	}
}

// Whatever the command line accepts must come back from the file as it was.
func TestNamesThatYAMLWouldMisreadAreKept(t *testing.T) {
	f := newKeysFile()
	for i, name := range []string{"42", "true", "null", "~", "2026-01-01", "a: b", "#a", "- a", "*", "&a", "!a", "'", `"`, `\`, "a #b", "é ñ 漢", "{a}", "@x", "%x", "0x1", "1e3", ".inf", "<<", "yes", "=", "|", "a,b", "?"} {
		g := grant{name: name, tenants: []string{"1", "true", "*", "0x1F", "-", "._-"}, models: []string{"*", "[x]", "a:b", "1.5", "{"}}
		if err := checkName(name); err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		if _, err := f.addKey(fmt.Sprint(i), g, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	data, err := encodeNode(f.doc)
	if err != nil {
		t.Fatal(err)
	}
	if !f.readsBack("keys.yaml", data) {
		t.Errorf("reads back as something else:\n%s", data)
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add([]byte("keys:\n- id: key_1\n  digest: " + digestA + "\n  tenants: [a, '*']\n  models: [gpt-*]\n  metadata: {a: b}\n"))
	f.Add([]byte("# head\nkeys: # line\n  # above\n  - {id: a, digest: " + digestA + ", expires: 2030-01-31, disabled: true}\n  # foot\n"))
	f.Add([]byte("keys:\n- &a\n  id: b\n- *a\n"))
	f.Add([]byte("keys: []\n---\n{}\n"))
	f.Add([]byte("? keys\n: - ? id\n    : x\n    ? digest\n    : \"" + digestB + "\"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := parseKeys("keys.yaml", data)
		if err != nil {
			var format *FormatError
			if !errors.As(err, &format) || len(format.Problems) == 0 || len(format.Problems) > maxProblems {
				t.Fatalf("not a usable error: %v", err)
			}
			return
		}
		for _, r := range file.records {
			if checkID(r.ID) != nil || checkName(r.Name) != nil || len(r.Tenants) == 0 {
				t.Fatalf("accepted %+v", r)
			}
			for _, tenant := range r.Tenants {
				if checkTenant(tenant) != nil {
					t.Fatalf("accepted tenant %q", tenant)
				}
			}
		}
		// Whatever was accepted can be edited, and loses nothing by it.
		before := len(file.records)
		if before > 0 {
			file.revoke(0, time.Unix(1_800_000_000, 0))
		}
		if _, err := file.addKey("a new key", grant{name: "a new name !"}, time.Unix(1_800_000_000, 0)); err != nil {
			t.Skip() // the fuzzer took the name
		}
		out, err := file.encode("keys.yaml")
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseKeys("keys.yaml", out)
		if err != nil || len(again.records) != before+1 || before > 0 && again.records[0].Revoked.IsZero() {
			t.Fatalf("%v; became\n%s", err, out)
		}
	})
}
