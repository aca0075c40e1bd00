package auth

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"streamrelay/configs"
)

// KeysCommand returns `relay keys`. Its commands work on the store alone, the
// keys file or Redis, whether a relay runs or not; one that runs takes a change
// up by itself. Errors with an ExitCode method decide the code of the process.
// No key ever stands in an error, and only create prints one: once, to standard
// output.
func KeysCommand() *cobra.Command {
	var at location
	const want = "want one of: create, list, show, update, disable, enable, revoke, import, export, tenant, adopt"
	root := &cobra.Command{
		Use:   "keys",
		Short: "Create, list, change and revoke the relay's own API keys and their limits",
		Long: `Create, list, change and revoke the keys that clients present to the relay, and
what they may use.

Only digests of keys are stored: in the keys file (keys.store: file; a running
relay takes a change up within a second) or in Redis (keys.store: redis; every
relay follows within milliseconds). --file names a keys file without a
configuration.`,
		Args: usageArgs(cobra.NoArgs, want),
		RunE: func(cmd *cobra.Command, _ []string) error { return usageError(want) },

		SuggestionsMinimumDistance: 2,
	}
	flags := root.PersistentFlags()
	flags.StringVar(&at.file, "file", "", "the keys `file`; without it, what the configuration says")
	flags.StringVar(&at.config, "config", "relay.yaml", "the configuration `file`")
	root.AddCommand(
		createCommand(&at), listCommand(&at), showCommand(&at), updateCommand(&at),
		switchCommand(&at, "disable", "Refuse a key until it is enabled again", true),
		switchCommand(&at, "enable", "Accept a disabled key again", false),
		revokeCommand(&at), importCommand(&at), exportCommand(&at), tenantCommand(&at), adoptCommand(&at),
	)
	var quiet func(*cobra.Command)
	quiet = func(cmd *cobra.Command) {
		cmd.SilenceUsage = true
		cmd.SetFlagErrorFunc(flagError)
		for _, c := range cmd.Commands() {
			quiet(c)
		}
	}
	quiet(root)
	return root
}

// location is where the keys are said to be.
type location struct{ file, config string }

// run opens the store, has act work on it, and closes it.
func (l *location) run(cmd *cobra.Command, act func(ctx context.Context, k keeper) error) error {
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	k, err := l.open(ctx, cmd)
	if err != nil {
		return err
	}
	defer k.close()
	err = act(ctx, k)
	if in, is := k.(*redisKeeper); is {
		return explained(in.config, err)
	}
	return err
}

func (l *location) open(ctx context.Context, cmd *cobra.Command) (keeper, error) {
	// Whoever manages keys need not have the providers' credentials in the
	// environment, nor be able to read the files that hold them.
	keys, redis, err := configs.LoadKeys(l.config, nil)
	var problems *configs.Problems
	named := cmd.Flags().Changed("config")
	switch {
	case l.file != "" && err == nil && (named || keys.Store == "file" && keys.File == l.file):
		return &fileKeeper{path: l.file, secret: []byte(keys.Pepper.Reveal()), state: keys.StateFile}, nil
	case l.file != "":
		return &fileKeeper{path: l.file}, nil
	case err == nil && keys.Store == "redis":
		return openRedisKeeper(ctx, &keys, &redis)
	case err == nil:
		return &fileKeeper{path: keys.File, secret: []byte(keys.Pepper.Reveal()), state: keys.StateFile}, nil
	case errors.As(err, &problems) && !named && absent(l.config):
		d := configs.Default().Keys
		fmt.Fprintf(cmd.ErrOrStderr(), "no %s here: using %s\n", l.config, d.File)
		return &fileKeeper{path: d.File, state: d.StateFile}, nil
	}
	if absent(l.config) {
		return nil, fmt.Errorf("%w\nor name the keys file with --file", err)
	}
	return nil, err
}

func absent(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// usageError is a mistake in how a command was called.
func usageError(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// flagError makes cobra's complaint about a flag a usage error. cobra quotes
// what was given, which may be a key.
func flagError(cmd *cobra.Command, err error) error {
	if strings.Contains(strings.ToLower(err.Error()), "sk-") {
		err = errors.New("a flag is not known, or its value is not right (not shown: it may hold a key)")
	}
	return usageError("%w: `%s --help` lists the flags", err, cmd.CommandPath())
}

// usageArgs is check with an error that says what is wanted, and never what
// was given: an argument may be a key.
func usageArgs(check cobra.PositionalArgs, want string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			if len(args) > 0 {
				if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
					return usageError("%s: did you mean %q? %s", cmd.CommandPath(), like[0], want)
				}
			}
			return usageError("%s: %s", cmd.CommandPath(), want)
		}
		return nil
	}
}

// oneKeyArg accepts an id or a name, and refuses a key without repeating it.
func oneKeyArg(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) != 1:
		return usageError("%s: want one id or name", cmd.CommandPath())
	case resemblesKey(args[0]):
		return usageError("%s: want an id or a name, and this looks like a key (not repeated here): arguments can be seen by other users and stay in the shell's history", cmd.CommandPath())
	}
	return nil
}
