package configs

import (
	"errors"
	"fmt"
	"strings"
)

var (
	errVariableOpen = errors.New("${ without its }: close it, or write $$ for a plain $")
	errVariableName = errors.New("what stands in ${} is not the name of a variable: write ${NAME} or ${NAME:-default}, or $$ for a plain $")
)

// expand replaces ${NAME}, ${NAME:-default} and $$ in one value; what it puts
// in is not expanded again. The default counts where the variable is not set
// or empty, as in a shell. used reports whether a variable was named. No error
// holds a part of s but the name of a variable.
func expand(s string, env func(string) (string, bool)) (value string, used bool, err error) {
	if !strings.Contains(s, "$") {
		return s, false, nil
	}
	var b strings.Builder
	for {
		text, rest, found := strings.Cut(s, "$")
		b.WriteString(text)
		if !found {
			return b.String(), used, nil
		}
		switch {
		case strings.HasPrefix(rest, "$"):
			b.WriteByte('$')
			s = rest[1:]
		case strings.HasPrefix(rest, "{"):
			inner, after, closed := strings.Cut(rest[1:], "}")
			if !closed {
				return "", used, errVariableOpen
			}
			v, err := variable(inner, env)
			if err != nil {
				return "", used, err
			}
			used = true
			b.WriteString(v)
			s = after
		default:
			b.WriteByte('$')
			s = rest
		}
	}
}

func variable(inner string, env func(string) (string, bool)) (string, error) {
	name, fallback, hasFallback := strings.Cut(inner, ":-")
	if !isVariableName(name) {
		return "", errVariableName
	}
	v, set := env(name)
	if set && (v != "" || !hasFallback) {
		return v, nil
	}
	if hasFallback {
		return fallback, nil
	}
	return "", fmt.Errorf("the variable %s is not set: set it, or give a default as ${%s:-default}", name, name)
}

func isVariableName(s string) bool {
	if s == "" || len(s) > 100 || '0' <= s[0] && s[0] <= '9' {
		return false
	}
	for _, c := range []byte(s) {
		if c != '_' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// escape is the inverse of expand for a value without variables.
func escape(s string) string { return strings.ReplaceAll(s, "$", "$$") }
