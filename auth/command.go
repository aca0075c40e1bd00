package auth

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"streamrelay/configs"
)

// KeysCommand returns `relay keys`. Its commands work on the keys file alone,
// whether a relay runs or not; one that runs takes a change up within a second.
// Errors with an ExitCode method decide the code of the process. No key ever
// stands in an error, and only create prints one: once, to standard output.
func KeysCommand() *cobra.Command {
	var at location
	root := &cobra.Command{
		Use:   "keys",
		Short: "Create, list, show, revoke and import the relay's own API keys",
		Long: `Create, list, show, revoke and import the keys that clients present to the relay.

Only digests of keys are stored. The keys file is the one of --file, or keys.file
of the configuration; a running relay takes a change up within a second.`,
		Args: usageArgs(cobra.NoArgs, `want one of: create, list, show, revoke, import`),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError("want one of: create, list, show, revoke, import")
		},
	}
	flags := root.PersistentFlags()
	flags.StringVar(&at.file, "file", "", "the keys `file`; without it, keys.file of the configuration")
	flags.StringVar(&at.config, "config", "relay.yaml", "the configuration `file`")
	root.AddCommand(createCommand(&at), listCommand(&at), showCommand(&at), revokeCommand(&at), importCommand(&at))
	for _, cmd := range append(root.Commands(), root) {
		cmd.SilenceUsage = true
		cmd.SetFlagErrorFunc(flagError)
	}
	return root
}

// location is where the keys file is said to be.
type location struct{ file, config string }

// path returns the path of the keys file.
func (l *location) path(cmd *cobra.Command) (string, error) {
	if l.file != "" {
		return l.file, nil
	}
	data, err := os.ReadFile(l.config)
	if errors.Is(err, fs.ErrNotExist) && !cmd.Flags().Changed("config") {
		file := configs.Default().Keys.File
		fmt.Fprintf(cmd.ErrOrStderr(), "no %s here: using %s\n", l.config, file)
		return file, nil
	}
	if err != nil {
		return "", &exitError{exitConfig, fmt.Errorf("read configuration: %w", err)}
	}
	// Whoever manages keys need not have the providers' credentials in the
	// environment, nor be able to read the files that hold them.
	const unset = "unset-variable"
	config, err := configs.Parse(l.config, data, func(name string) (string, bool) {
		if v, ok := os.LookupEnv(name); ok {
			return v, true
		}
		return unset, true
	})
	switch {
	case err != nil:
		return "", fmt.Errorf("%w\nor name the keys file with --file", err)
	case config.Keys.Store != "file":
		return "", &exitError{exitConfig, fmt.Errorf("%s: keys.store: %s is not built in this version; use keys.store: file", l.config, config.Keys.Store)}
	case strings.Contains(config.Keys.File, unset):
		return "", &exitError{exitConfig, fmt.Errorf("%s: keys.file: names a variable that is not set; set it, or name the file with --file", l.config)}
	}
	return config.Keys.File, nil
}

// usageError is a mistake in how a command was called.
func usageError(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// flagError makes cobra's complaint about a flag a usage error. cobra quotes
// what was given, which may be a key.
func flagError(_ *cobra.Command, err error) error {
	if strings.Contains(strings.ToLower(err.Error()), "sk-") {
		return usageError("a flag is not known, or its value is not right (not shown: it may hold a key); see --help")
	}
	return &exitError{exitUsage, err}
}

// usageArgs is check with an error that says what is wanted, and never what
// was given: an argument may be a key.
func usageArgs(check cobra.PositionalArgs, want string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError("%s: %s", cmd.CommandPath(), want)
		}
		return nil
	}
}

// grantFlags are the flags of create and import.
type grantFlags struct {
	name    string
	tenants []string
	models  []string
	expires string
}

func (g *grantFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&g.name, "name", "", "a `name` for people (default: the id)")
	flags.StringArrayVar(&g.tenants, "tenant", nil, "a `tenant` the key may act for, * for any; may be given again, the first is the default")
	flags.StringArrayVar(&g.models, "model", nil, "a `glob` of models the key may use; may be given again (default: every model)")
	flags.StringVar(&g.expires, "expires", "", "a `time` from now (30d, 12h), a date or an RFC 3339 time (default: never)")
}

// grant checks the flags. Its errors do not repeat them: keys get pasted into
// wrong places.
func (g *grantFlags) grant(now time.Time) (grant, error) {
	if g.name != "" {
		if err := checkName(g.name); err != nil {
			return grant{}, usageError("--name: %w", err)
		}
	}
	for i, tenant := range g.tenants {
		if err := checkTenant(tenant); err != nil {
			return grant{}, usageError("--tenant: %w", err)
		}
		for _, other := range g.tenants[:i] {
			if other == tenant {
				return grant{}, usageError("--tenant: %q is given twice", tenant)
			}
		}
	}
	for _, model := range g.models {
		if err := checkModel(model); err != nil {
			return grant{}, usageError("--model: %w", err)
		}
	}
	expires, err := parseExpiry(g.expires, now)
	if err != nil {
		return grant{}, usageError("--expires: %w", err)
	}
	return grant{name: g.name, tenants: g.tenants, models: g.models, expires: expires}, nil
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
