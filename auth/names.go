package auth

import (
	"errors"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

var (
	errNotID         = errors.New("want 1 to 64 of the characters A-Z a-z 0-9 . _ -")
	errNotTenant     = errors.New("want 1 to 64 of the characters A-Z a-z 0-9 . _ -, or * alone for any tenant")
	errNotName       = errors.New("want 1 to 64 bytes of printable text without a space at either end")
	errNotModel      = errors.New("want 1 to 256 printable characters without spaces; * stands for any run of characters")
	errNotOneTenant  = errors.New("want 1 to 64 of the characters A-Z a-z 0-9 . _ -")
	errNotPath       = errors.New("want a path that begins with / or *, without spaces and query, such as /v1/chat/completions or /v1/*")
	errNotTime       = errors.New("want a time such as 2030-01-31T12:00:00Z, or a date")
	errNotImportable = errors.New("a key is at most 512 visible ASCII characters")
	errChecksum      = errors.New("it has the form of a relay key, but its checksum digits are wrong: it was mistyped or cut")
	errIsKey         = errors.New("looks like a raw key, which must not be stored; give a name")
)

// The checks below are the same for a file and for a command's flags. Their
// errors never repeat the text.

func checkID(s string) error {
	switch {
	case resemblesKey(s):
		return errIsKey
	case !wellFormed(s):
		return errNotID
	}
	return nil
}

func checkName(s string) error {
	switch {
	case resemblesKey(s):
		return errIsKey
	case len(s) == 0 || len(s) > maxNameLength || !printable(s) || s[0] == ' ' || s[len(s)-1] == ' ':
		return errNotName
	}
	return nil
}

func checkTenant(s string) error {
	switch {
	case s == AnyTenant:
		return nil
	case resemblesKey(s):
		return errIsKey
	case !wellFormed(s):
		return errNotTenant
	}
	return nil
}

// checkOneTenant is checkTenant for a tenant itself, which * is not.
func checkOneTenant(s string) error {
	if s == AnyTenant {
		return errNotOneTenant
	}
	if err := checkTenant(s); err != nil {
		return err
	}
	return nil
}

func checkPath(s string) error {
	if checkModel(s) != nil || s[0] != '/' && s[0] != '*' || strings.ContainsAny(s, "?#") {
		return errNotPath
	}
	return nil
}

func checkModel(s string) error {
	if len(s) == 0 || len(s) > 256 || !printable(s) {
		return errNotModel
	}
	for _, c := range s {
		if c == ' ' {
			return errNotModel
		}
	}
	return nil
}

// printable reports whether s can be shown in one line: valid UTF-8 without
// control characters, and no space but U+0020.
func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, c := range s {
		if !unicode.IsPrint(c) {
			return false
		}
	}
	return true
}

// parseTime reads an RFC 3339 time, or a date, which is its midnight in UTC.
func parseTime(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		t, err := time.Parse(layout, s)
		if t = t.UTC(); err == nil && 1970 <= t.Year() && t.Year() <= 9999 {
			return t, nil
		}
	}
	return time.Time{}, errNotTime
}

// checkImport tells whether a raw key can be presented at all, in a header and
// in a query, and is not a misspelt key of ours, which would never be looked up.
func checkImport(key string) error {
	if len(key) > maxKeyLength {
		return errNotImportable
	}
	for i := range len(key) {
		if key[i] <= ' ' || key[i] > '~' {
			return errNotImportable
		}
	}
	if _, ok := CheckForm([]byte(key)); !ok {
		return errChecksum
	}
	return nil
}
