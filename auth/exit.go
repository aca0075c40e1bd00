package auth

// The exit codes of a command, as main hands them on.
const (
	exitUsage       = 2
	exitUnavailable = 69 // EX_UNAVAILABLE of sysexits.h
	exitConfig      = 78 // EX_CONFIG
)

// exitError is an error that decides the exit code of the process.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// ExitCode is read by main.
func (e *exitError) ExitCode() int { return e.code }
