package auth

import (
	"errors"
	"maps"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"streamrelay/auth/limits"
	"streamrelay/configs"
)

// grantFlags are the flags of create, import and update.
type grantFlags struct {
	cmd      *cobra.Command
	clears   bool // an empty list takes a restriction away
	name     string
	tenants  []string
	models   []string
	paths    []string
	expires  string
	metadata []string
	limits   limitFlags
}

// limitFlags are the flags of limits, by the name of the field.
type limitFlags map[string]*string

func flagOf(field string) string { return strings.ReplaceAll(field, "_", "-") }

func (l *limitFlags) register(cmd *cobra.Command) {
	*l = limitFlags{}
	for _, f := range limits.Fields() {
		kind := "number"
		switch {
		case strings.HasPrefix(f.Name, "budget"):
			kind = "dollars"
		case f.Name == "burst":
			kind = "duration"
		}
		(*l)[f.Name] = cmd.Flags().String(flagOf(f.Name), "", "at most this `"+kind+"`: "+f.Help+"; 0: no limit")
	}
}

// apply changes the limits whose flags were given.
func (l limitFlags) apply(cmd *cobra.Command, to *limits.Limits) error {
	for _, f := range limits.Fields() {
		if !cmd.Flags().Changed(flagOf(f.Name)) {
			continue
		}
		if err := f.Set(to, *l[f.Name]); err != nil {
			return usageError("--%s: %w", flagOf(f.Name), err)
		}
	}
	return nil
}

func (l limitFlags) given(cmd *cobra.Command) bool {
	for name := range l {
		if cmd.Flags().Changed(flagOf(name)) {
			return true
		}
	}
	return false
}

func (g *grantFlags) register(cmd *cobra.Command) {
	g.cmd = cmd
	flags := cmd.Flags()
	flags.StringVar(&g.name, "name", "", "a `name` for people (default: the id)")
	flags.StringArrayVar(&g.tenants, "tenant", nil, "a `tenant` the key may act for, * for any; may be given again, the first is the default")
	flags.StringArrayVar(&g.models, "model", nil, "a `glob` of models the key may use; may be given again (default: every model)")
	flags.StringArrayVar(&g.paths, "path", nil, "a `glob` of paths the key may be used for, such as /v1/chat/*; may be given again (default: every path)")
	flags.StringVar(&g.expires, "expires", "", "a `time` from now (30d, 12h), a date or an RFC 3339 time (default: never)")
	flags.StringArrayVar(&g.metadata, "metadata", nil, "`name=value` of your own, kept with the key; may be given again")
	g.limits.register(cmd)
}

// grant checks the flags. Its errors do not repeat them: keys get pasted into
// wrong places.
func (g *grantFlags) grant(now time.Time) (grant, error) {
	r := &Record{}
	if err := g.apply(r, now); err != nil {
		return grant{}, err
	}
	return grant{r.Name, r.Tenants, r.Models, r.Paths, r.Limits, r.Expires, r.Metadata}, nil
}

// apply gives r what the flags say; of those that were not given it keeps what
// it has. An empty value takes a restriction away.
func (g *grantFlags) apply(r *Record, now time.Time) error {
	changed := g.cmd.Flags().Changed
	if changed("name") {
		if err := checkName(g.name); err != nil {
			return usageError("--name: %w", err)
		}
		r.Name = g.name
	}
	for _, list := range []struct {
		flag  string
		given []string
		check func(string) error
		to    *[]string
	}{{"tenant", g.tenants, checkTenant, &r.Tenants}, {"model", g.models, checkModel, &r.Models}, {"path", g.paths, checkPath, &r.Paths}} {
		if !changed(list.flag) {
			continue
		}
		if g.clears && len(list.given) == 1 && list.given[0] == "" {
			*list.to = nil
			if list.flag == "tenant" {
				*list.to = []string{defaultTenant}
			}
			continue
		}
		seen := map[string]bool{}
		for _, s := range list.given {
			if err := list.check(s); err != nil {
				return usageError("--%s: %w", list.flag, err)
			}
			if seen[s] && list.flag == "tenant" {
				return usageError("--tenant: %q is given twice", s)
			}
			seen[s] = true
		}
		*list.to = list.given
	}
	switch {
	case g.expires == "never" && g.clears:
		r.Expires = time.Time{}
	case g.expires != "":
		expires, err := parseExpiry(g.expires, now)
		if err != nil {
			return usageError("--expires: %w", err)
		}
		r.Expires = expires
	}
	if err := g.applyMetadata(r); err != nil {
		return err
	}
	return g.limits.apply(g.cmd, &r.Limits)
}

var errMetadata = errors.New("want name=value: a name of A-Z a-z 0-9 . _ - and printable text of at most 256 bytes; an empty value takes the name away")

func (g *grantFlags) applyMetadata(r *Record) error {
	if len(g.metadata) == 0 {
		return nil
	}
	r.Metadata = maps.Clone(r.Metadata)
	if r.Metadata == nil {
		r.Metadata = map[string]string{}
	}
	for _, s := range g.metadata {
		name, value, ok := strings.Cut(s, "=")
		if !ok || checkMetadata(name, value) != nil {
			return usageError("--metadata: %w", errMetadata)
		}
		if value == "" {
			delete(r.Metadata, name)
		} else {
			r.Metadata[name] = value
		}
	}
	if len(r.Metadata) == 0 {
		r.Metadata = nil
	}
	return nil
}

func checkMetadata(name, value string) error {
	if !wellFormed(name) || len(value) > 256 || !printable(value) || resemblesKey(name) || resemblesKey(value) {
		return errMetadata
	}
	return nil
}

// parseExpiry reads 30d, 2030-01-31 or 2030-01-31T12:00:00Z; "" is never.
func parseExpiry(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := parseTime(s)
	if err != nil {
		d, err := configs.ParseDuration(s)
		if err != nil {
			return time.Time{}, errors.New("want a time from now such as 30d or 12h, a date such as 2030-01-31, or an RFC 3339 time")
		}
		t = now.Add(d).UTC().Truncate(time.Second)
	}
	if !t.After(now) {
		return time.Time{}, errors.New("lies in the past")
	}
	return t, nil
}
