package configs

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// Whatever the bytes: no panic, no secret in the error, and a configuration
// that is accepted prints as one that means the same.
func FuzzParse(f *testing.F) {
	for _, path := range append(files(f, "testdata/*.yaml"), "relay.reference.yaml", "relay.example.yaml") {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("fuzz.yaml", data, testEnv)
		if err != nil {
			if c != nil {
				t.Error("a configuration beside an error")
			}
			if strings.Contains(err.Error(), planted+"-variable") {
				t.Errorf("a secret in: %v", err)
			}
			return
		}
		first := printWithSecrets(t, c)
		again, err := Parse("printed.yaml", first, testEnv)
		if err != nil {
			t.Fatalf("printed:\n%s\n%v", first, err)
		}
		if second := printWithSecrets(t, again); !bytes.Equal(first, second) {
			t.Errorf("printed:\n%s\nprinted again:\n%s", first, second)
		}
	})
}

// printWithSecrets puts a value in place of the mask, which Parse refuses.
func printWithSecrets(t *testing.T, c *Config) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := c.Print(&out); err != nil {
		t.Fatal(err)
	}
	return bytes.ReplaceAll(out.Bytes(), []byte("'***'"), []byte("masked"))
}
