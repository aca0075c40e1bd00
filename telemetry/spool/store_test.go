package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestAFileThatIsClosedMeanwhileIsListedOnce: whenever in between the listing of
// the places it moves on.
func TestAFileThatIsClosedMeanwhileIsListedOnce(t *testing.T) {
	for _, c := range []struct{ from, to string }{
		{"spool/0/request_log.v1.b-000001" + openEnding, "dt=2026-11-24/request_log.v1.b-000001" + ending},
		{"spool/0/request_log.v1.b-000001" + openEnding, "spool/0/request_log.v1.b-000001" + ending},
	} {
		for at := 1; at <= 3; at++ {
			t.Run(fmt.Sprintf("%s before place %d", c.to, at), func(t *testing.T) {
				root := t.TempDir()
				from, to := filepath.Join(root, c.from), filepath.Join(root, c.to)
				if err := errors.Join(os.MkdirAll(filepath.Dir(from), 0o700), os.MkdirAll(filepath.Dir(to), 0o700), os.WriteFile(from, nil, 0o600)); err != nil {
					t.Fatal(err)
				}
				looked := 0
				files, err := list(root, func(pattern string) ([]string, error) {
					if looked++; looked == at {
						if err := os.Rename(from, to); err != nil {
							t.Fatal(err)
						}
					}
					return filepath.Glob(pattern)
				})
				if err != nil || len(files) != 1 {
					t.Fatalf("%+v, %v", files, err)
				}
				if f := files[0]; f.Path != from && f.Path != to || f.Open != (f.Path == from) {
					t.Errorf("%+v", f)
				}
			})
		}
	}
}
