package auth

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"streamrelay/auth/limits"
)

// recordJSON is a record in Redis, in the state file and in an export.
type recordJSON struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	Digest   string            `json:"digest"` // 64 hex digits
	Tenants  []string          `json:"tenants"`
	Models   []string          `json:"models,omitempty"`
	Paths    []string          `json:"paths,omitempty"`
	Limits   *limits.Limits    `json:"limits,omitempty"`
	Created  *time.Time        `json:"created,omitempty"`
	Expires  *time.Time        `json:"expires,omitempty"`
	Disabled bool              `json:"disabled,omitempty"`
	Revoked  *time.Time        `json:"revoked,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Version  int64             `json:"version"`
}

// tenantJSON is a tenant in the same places.
type tenantJSON struct {
	Tenant  string        `json:"tenant"`
	Limits  limits.Limits `json:"limits"`
	Version int64         `json:"version"`
}

func optionalTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func jsonOf(r *Record) recordJSON {
	j := recordJSON{
		ID: r.ID, Name: r.Name, Digest: hex.EncodeToString(r.Digest[:]),
		Tenants: r.Tenants, Models: r.Models, Paths: r.Paths,
		Created: optionalTime(r.Created), Expires: optionalTime(r.Expires),
		Disabled: r.Disabled, Revoked: optionalTime(r.Revoked),
		Metadata: r.Metadata, Version: r.Version,
	}
	if r.Limits != (limits.Limits{}) {
		j.Limits = &r.Limits
	}
	return j
}

func encodeRecord(r *Record) []byte { return mustJSON(jsonOf(r)) }

func encodeTenant(t *Tenant) []byte { return mustJSON(tenantJSON{t.Name, t.Limits, t.Version}) }

// mustJSON encodes values of types that cannot fail to.
func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return b
}

// decodeStrict reads one JSON value without unknown fields. Its errors do not
// repeat what stands there.
func decodeStrict(data []byte, v any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(v); err != nil {
		return jsonProblem(err)
	}
	if decoder.More() {
		return errors.New("something follows the JSON value")
	}
	return nil
}

// jsonProblem keeps of a decoder's error what cannot hold a key.
func jsonProblem(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("not JSON at byte %d", syntax.Offset)
	case errors.As(err, &kind):
		return fmt.Errorf("%s: want another type than %s", orElse(kind.Field, "value"), kind.Value)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return errors.New("not JSON: it ends early")
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		if name, err := strconv.Unquote(name); err == nil && wellFormed(name) && !resemblesKey(name) {
			return fmt.Errorf("%s: an unknown field", name)
		}
		return errors.New("an unknown field")
	}
	return err
}

// decodeRecord reads what encodeRecord wrote, or an operator's own tool, and
// checks it like a keys file.
func decodeRecord(data []byte) (*Record, error) {
	var j recordJSON
	if err := decodeStrict(data, &j); err != nil {
		return nil, err
	}
	return j.record()
}

func (j *recordJSON) record() (*Record, error) {
	digest, err := parseDigest(j.Digest)
	if err != nil {
		return nil, errors.New("digest: want 64 hex digits")
	}
	r := &Record{
		Digest: digest, ID: j.ID, Name: orElse(j.Name, j.ID), Tenants: j.Tenants, Models: j.Models, Paths: j.Paths,
		Disabled: j.Disabled, Metadata: j.Metadata, Version: j.Version,
	}
	if j.Limits != nil {
		r.Limits = *j.Limits
	}
	for _, t := range []struct {
		from *time.Time
		to   *time.Time
	}{{j.Created, &r.Created}, {j.Expires, &r.Expires}, {j.Revoked, &r.Revoked}} {
		if t.from != nil {
			*t.to = t.from.UTC()
		}
	}
	if len(r.Tenants) == 0 {
		r.Tenants = []string{defaultTenant}
	}
	return r, r.check()
}

// check applies the rules of a keys file to a record from elsewhere.
func (r *Record) check() error {
	if err := checkID(r.ID); err != nil {
		return fmt.Errorf("id: %w", err)
	}
	if err := checkName(r.Name); err != nil {
		return fmt.Errorf("name: %w", err)
	}
	for _, list := range []struct {
		name  string
		of    []string
		check func(string) error
	}{{"tenants", r.Tenants, checkTenant}, {"models", r.Models, checkModel}, {"paths", r.Paths, checkPath}} {
		for _, s := range list.of {
			if err := list.check(s); err != nil {
				return fmt.Errorf("%s: %w", list.name, err)
			}
		}
	}
	if err := r.Limits.Check(); err != nil {
		return fmt.Errorf("limits: %w", err)
	}
	return nil
}

func decodeTenant(data []byte) (*Tenant, error) {
	var j tenantJSON
	if err := decodeStrict(data, &j); err != nil {
		return nil, err
	}
	if err := checkOneTenant(j.Tenant); err != nil {
		return nil, fmt.Errorf("tenant: %w", err)
	}
	return &Tenant{Name: j.Tenant, Limits: j.Limits, Version: j.Version}, nil
}
