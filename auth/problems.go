package auth

import (
	"fmt"
	"strings"
)

// maxProblems bounds what one broken file makes the log hold.
const maxProblems = 20

// FormatError says everything that is wrong with a keys file, up to a bound.
// It holds no digest and no text that could be a key.
type FormatError struct {
	Path     string
	Problems []Problem // in the order of the file
}

// Problem is one mistake.
type Problem struct {
	Line int // from 1; 0: the file as a whole
	Text string
}

// Error gives a line of its own to each problem.
func (e *FormatError) Error() string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(e.Path)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d", p.Line)
		}
		b.WriteString(": " + p.Text)
	}
	return b.String()
}

// ExitCode makes a broken keys file end a command like any other broken
// configuration.
func (e *FormatError) ExitCode() int { return exitConfig }

// add notes a mistake, unless there are enough of them.
func (e *FormatError) add(line int, format string, args ...any) {
	if len(e.Problems) < maxProblems {
		e.Problems = append(e.Problems, Problem{line, fmt.Sprintf(format, args...)})
	}
}
