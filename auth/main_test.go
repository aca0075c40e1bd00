package auth

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// roleVariable makes the test binary another process of the tests.
const roleVariable = "AUTH_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "keys": // relay keys …
		cmd := KeysCommand()
		cmd.SilenceErrors = true
		if err := cmd.Execute(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(exitCode(err))
		}
		os.Exit(0)
	case "writer": // stores keys until it is killed; says each id once stored
		for {
			_, r, err := createKey(context.Background(), &fileKeeper{path: os.Args[1]}, grant{}, time.Now())
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			fmt.Println(r.ID)
		}
	case "relay": // keeps the keys of a folder, and does what standard input says
		relayRole(os.Args[1])
		os.Exit(0)
	}
	// A closed client of a cluster may still sleep for a second before it looks
	// at its nodes once more and ends.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*call).DelayDo.func1"))
}

func process(t *testing.T, role string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	return cmd
}

// exitCode is what main makes of an error.
func exitCode(err error) int {
	var coded interface{ ExitCode() int }
	switch {
	case err == nil:
		return 0
	case errors.As(err, &coded):
		return coded.ExitCode()
	}
	return 1
}
