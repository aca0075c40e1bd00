package simulate

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func TestWhatCannotBeServedIsRefused(t *testing.T) {
	for args, want := range map[string]string{
		"--events 0":         "X-Simulate: events=0",
		"--prompt 0":         "X-Simulate: prompt=0",
		"--size 0":           "X-Simulate: size=0",
		"--profile events=0": "X-Simulate: events=0",
		"--dist trace":       "needs --trace FILE",
		"--profile evnts=1":  "unknown key",
	} {
		cmd := Command()
		cmd.SetArgs(append(strings.Fields(args), "--listen", "127.0.0.1:-1"))
		cmd.SetOut(io.Discard)
		cmd.SetErr(io.Discard)
		if err := cmd.Execute(); !errors.As(err, new(usageError)) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", args, err, want)
		}
	}
}
