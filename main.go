// Command relay is a streaming edge proxy for LLM APIs. Each command lives in
// the package that owns its subject; this is the table of contents.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"streamrelay/auth"
	"streamrelay/bench"
	"streamrelay/bench/simulate"
	"streamrelay/configs"
	"streamrelay/pool"
	"streamrelay/proxy"
	"streamrelay/telemetry/clickhouse"
	"streamrelay/telemetry/live/top"
	"streamrelay/telemetry/logs"
	"streamrelay/telemetry/requestlog"
)

// Set by the linker, see the Makefile.
var (
	version  = "dev"
	revision = "unknown"
)

func main() {
	if err := command().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "relay:", err)
		os.Exit(exitCode(err))
	}
}

func command() *cobra.Command {
	build := proxy.Build{Version: version, Revision: revision}
	root := &cobra.Command{
		Use:           "relay",
		Short:         "A streaming edge proxy for LLM APIs",
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				hint := "`relay --help` lists them"
				if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
					hint = fmt.Sprintf("did you mean %q?", like[0])
				}
				return usage{fmt.Errorf("unknown command %.12q: %s", args[0], hint)}
			}
			return cmd.Help()
		},

		SuggestionsMinimumDistance: 2,
	}
	root.AddCommand(
		proxy.ServeCommand(build),
		proxy.DemoCommand(build, simulated),
		configs.CheckCommand(pool.Probe, auth.ProbeRedis, clickhouse.Probe(requestlog.Columns(), requestlog.BodyColumns())),
		auth.KeysCommand(),
		logs.Command(),
		top.Command(),
		clickhouse.MigrateCommand(version),
		simulate.Command(),
		bench.Command(version),
		proxy.HealthcheckCommand(),
		versionCommand(build),
	)
	for _, c := range root.Commands() {
		explainArgs(c)
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage{fmt.Errorf("%w: `%s --help` lists the flags", err, cmd.CommandPath())}
	})
	return root
}

// explainArgs makes a wrong number of arguments of c, and of the commands below
// it, a usage error that says what is wrong: cobra takes an argument where none
// belongs for an unknown command.
func explainArgs(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
			if err == nil {
				return nil
			}
			if !cmd.HasSubCommands() && strings.HasPrefix(err.Error(), "unknown command") {
				err = fmt.Errorf("%s takes no arguments, and %.12q is one: `%[1]s --help` lists its flags", cmd.CommandPath(), args[0])
			}
			return usage{err}
		}
	}
	for _, below := range c.Commands() {
		explainArgs(below)
	}
}

func versionCommand(b proxy.Build) *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]string{
					"version": b.Version, "revision": b.Revision, "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH,
				})
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "relay %s (%s, %s, %s/%s)\n", b.Version, b.Revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// simulated starts the demo's provider.
func simulated() (string, func() error, error) {
	p, err := simulate.New(simulate.Options{Profile: simulate.Profile{TTFT: 150 * time.Millisecond, Gap: 20 * time.Millisecond, Events: 48}})
	if err != nil {
		return "", nil, err
	}
	addr, err := p.Start("127.0.0.1:0")
	return addr, p.Close, err
}

// usage is a mistake in how the command was called.
type usage struct{ error }

func (usage) ExitCode() int { return 2 }

// exitCode is 0, 1 runtime, 2 usage, 69 a dependency out of reach, 78
// configuration.
func exitCode(err error) int {
	var coded interface{ ExitCode() int }
	if errors.As(err, &coded) {
		return coded.ExitCode()
	}
	return 1
}
