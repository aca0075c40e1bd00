package configs

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxProblems bounds what one file can make the relay print.
const maxProblems = 100

// exitConfig is EX_CONFIG of sysexits.h, which systemd shows by name.
const exitConfig = 78

// Problem is one mistake, or one warning, in a configuration file.
type Problem struct {
	File    string `json:"file"`
	Line    int    `json:"line"` // from 1; 0: not about a line
	Path    string `json:"path"` // such as upstreams[0].base_url; "": the file as a whole
	Message string `json:"message"`
}

// String gives file:line: path: message.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		b.WriteByte(':')
		b.WriteString(strconv.Itoa(p.Line))
	}
	b.WriteString(": ")
	if p.Path != "" {
		b.WriteString(p.Path)
		b.WriteString(": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// Problems is the error of Load and Parse: all that is wrong with one file,
// in the order of its lines.
type Problems struct {
	List    []Problem
	Dropped int // mistakes above the first 100
}

// Error prints one problem a line.
func (p *Problems) Error() string {
	lines := make([]string, 0, len(p.List)+1)
	for _, problem := range p.List {
		lines = append(lines, problem.String())
	}
	if p.Dropped > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", p.Dropped))
	}
	return strings.Join(lines, "\n")
}

// ExitCode is what a process ends with that cannot go on for these problems.
func (p *Problems) ExitCode() int { return exitConfig }

// report collects problems and knows on which line each key stands.
type report struct {
	file     string
	lines    map[string]int // path -> line of the key or list item
	problems []Problem
	warnings []Problem
	dropped  int
}

func newReport(file string) *report {
	return &report{file: file, lines: map[string]int{"": 1}}
}

// onLine adds a problem at a known line.
func (r *report) onLine(line int, path, format string, args ...any) {
	if len(r.problems) == maxProblems {
		r.dropped++
		return
	}
	r.problems = append(r.problems, Problem{r.file, line, path, fmt.Sprintf(format, args...)})
}

// add adds a problem at the line of path or, where the file does not have it,
// of the nearest section around it.
func (r *report) add(path, format string, args ...any) {
	r.onLine(r.line(path), path, format, args...)
}

// warn adds a warning at the line of path.
func (r *report) warn(path, format string, args ...any) {
	r.warnings = append(r.warnings, Problem{r.file, r.line(path), path, fmt.Sprintf(format, args...)})
}

func (r *report) line(path string) int {
	for {
		if line, ok := r.lines[path]; ok {
			return line
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
}

// given reports whether the file has the key.
func (r *report) given(path string) bool {
	_, ok := r.lines[path]
	return ok
}

// failed reports whether a problem was found at path or below it.
func (r *report) failed(path string) bool {
	for _, p := range r.problems {
		rest, below := strings.CutPrefix(p.Path, path)
		if below && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return true
		}
	}
	return false
}

// err returns *Problems, or nil when there is none.
func (r *report) err() error {
	if len(r.problems) == 0 {
		return nil
	}
	sortByLine(r.problems)
	return &Problems{List: r.problems, Dropped: r.dropped}
}

// sortedWarnings returns the warnings in the order of their lines.
func (r *report) sortedWarnings() []Problem {
	sortByLine(r.warnings)
	return r.warnings
}

func sortByLine(list []Problem) {
	slices.SortStableFunc(list, func(a, b Problem) int { return a.Line - b.Line })
}

// field is the path of a key in a section.
func field(section, key string) string {
	if section == "" {
		return key
	}
	return section + "." + key
}

// item is the path of a list item.
func item(list string, i int) string { return list + "[" + strconv.Itoa(i) + "]" }

// entry is the path of a freely named key, such as a model or a header.
func entry(section, key string) string { return section + "[" + showKey(key) + "]" }

// showKey quotes a key that stands in the file. A text that may be a secret
// standing in the wrong place is not shown.
func showKey(key string) string {
	digits := 0
	for _, c := range []byte(key) {
		if c <= ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return "(not shown)"
		}
		if '0' <= c && c <= '9' {
			digits++
		}
	}
	if len(key) > 100 || digits > 12 || key == "" || strings.HasPrefix(key, "sk-") || strings.Contains(key, "secret-") {
		return "(not shown)"
	}
	return strconv.Quote(key)
}
