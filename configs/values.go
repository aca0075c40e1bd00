package configs

import (
	"fmt"
	"io"
)

const masked = "***"

// Secret is a value that does not print itself: every verb of fmt, and the
// text, JSON and YAML forms, give *** (nothing when it is empty). Reveal alone
// gives the value. The zero Secret is empty. Secrets are not comparable by ==:
// compare what Reveal returns.
type Secret struct {
	// A pointer, since fmt calls no method on the unexported fields of other
	// types: it then prints an address instead of the value.
	v *string
}

// NewSecret wraps v.
func NewSecret(v string) Secret {
	if v == "" {
		return Secret{}
	}
	return Secret{v: &v}
}

// Reveal returns the value, for the one place that presents it.
func (s Secret) Reveal() string {
	if s.v == nil {
		return ""
	}
	return *s.v
}

// IsZero reports whether the secret is empty.
func (s Secret) IsZero() bool { return s.v == nil }

// String hides the value; an empty secret prints as empty.
func (s Secret) String() string {
	if s.v == nil {
		return ""
	}
	return masked
}

// GoString hides the value from %#v.
func (s Secret) GoString() string { return s.String() }

// Format hides the value from every verb, known or not.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText hides the value.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalJSON hides the value.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + s.String() + `"`), nil }

// MarshalYAML hides the value.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }
