package configs

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

const (
	exitUsage = 2
	// exitUnavailable is EX_UNAVAILABLE of sysexits.h: the configuration is
	// right, and something that it names does not answer.
	exitUnavailable = 69
)

// exitError ends a command whose findings are already printed.
type exitError struct {
	code int
	text string
}

func (e *exitError) Error() string { return e.text }

// ExitCode is what the process ends with.
func (e *exitError) ExitCode() int { return e.code }

// checkResult is what `relay check --json` prints.
type checkResult struct {
	OK       bool      `json:"ok"`
	Problems []Problem `json:"problems"`
	Warnings []Problem `json:"warnings"`
	Online   []Finding `json:"online,omitempty"`
}

// Finding is what a Probe found out about one thing that the configuration
// names.
type Finding struct {
	Name   string `json:"name"` // such as redis
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`         // what is there; or what is wrong
	Hint   string `json:"hint,omitempty"` // what to change; with OK, what would be better
}

// Probe tries what the configuration names, upstreams or a store, within a few
// seconds, as the relay will use it: each is of the package that does so. nil
// findings: it is not used.
type Probe func(context.Context, *Config) []Finding

// CheckCommand is `relay check`: it says everything that is wrong with a
// configuration, or what it amounts to, and starts nothing. Its error has an
// ExitCode: 78 for the configuration, 69 for an upstream or a store that is out
// of reach or of no use. probes are for --online.
func CheckCommand(probes ...Probe) *cobra.Command {
	var path string
	var print, asJSON, online bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration and print every mistake in it",
		Long: `Check reads the configuration, the secrets and the certificates that it names,
and prints every mistake as file:line: key: what is wrong: what to do.
Exit codes: 0 it is valid, 78 it is not, 69 an upstream or a store is out of
reach or of no use (--online).`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SilenceUsage = true
			if print && asJSON {
				return &exitError{exitUsage, "--print and --json do not go together: use one of them"}
			}
			config, r := load(path, nil)
			result := checkResult{Problems: []Problem{}, Warnings: []Problem{}}
			err := r.err()
			if err == nil {
				result.Warnings = append(result.Warnings, r.sortedWarnings()...)
			}
			if err != nil {
				result.Problems = r.problems
				err = &exitError{exitConfig, fmt.Sprintf("%s is not valid: %s", path, count(len(r.problems)+r.dropped, "problem"))}
			} else if online {
				var wrong []string
				for _, probe := range probes {
					for _, f := range probe(cmd.Context(), config) {
						result.Online = append(result.Online, f)
						if !f.OK {
							wrong = append(wrong, f.Name+" cannot be used")
						}
					}
				}
				if len(wrong) > 0 {
					err = &exitError{exitUnavailable, strings.Join(slices.Compact(wrong), ", ")}
				}
			}
			result.OK = err == nil
			if asJSON {
				return firstError(writeJSON(cmd.OutOrStdout(), &result), err)
			}
			// The configuration alone goes to standard output with --print, so
			// that it can be kept or compared.
			out := cmd.OutOrStdout()
			if print {
				out = cmd.ErrOrStderr()
			}
			result.write(cmd.ErrOrStderr(), out)
			if len(result.Problems) > 0 {
				return err
			}
			fmt.Fprintln(out, "configuration ok: "+summary(config))
			if print {
				return firstError(config.Print(cmd.OutOrStdout()), err)
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&path, "config", "c", "relay.yaml", "configuration file")
	cmd.Flags().BoolVar(&print, "print", false, "print the configuration in effect, defaults included, secrets masked")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	cmd.Flags().BoolVar(&online, "online", false, "also connect to each upstream (TCP, and TLS for https) and try the stores, within 5 s each")
	return cmd
}

// write prints what was found: what is wrong to stderr, what is well to stdout.
func (c *checkResult) write(stderr, stdout io.Writer) {
	for _, p := range c.Problems {
		fmt.Fprintln(stderr, p)
	}
	for _, w := range c.Warnings {
		w.Message = "warning: " + w.Message
		fmt.Fprintln(stderr, w)
	}
	for i := range c.Online {
		c.Online[i].write(stderr, stdout)
	}
}

// write prints a finding and what to do about it.
func (f *Finding) write(stderr, stdout io.Writer) {
	out, line := stdout, f.Name+": "+f.Detail
	if !f.OK {
		out = stderr
	}
	if f.Hint != "" {
		line += "\n  " + f.Hint
	}
	fmt.Fprintln(out, line)
}

// summary is one line that lets an operator see whether it is the right file.
func summary(c *Config) string {
	credentials := 0
	for i := range c.Upstreams {
		credentials += len(c.Upstreams[i].Credentials)
	}
	admin := c.Admin.Listen
	if admin == "" {
		admin = "none"
	}
	return fmt.Sprintf("%s, %s, %s, keys in %s, listen %s, admin %s",
		count(len(c.Upstreams), "upstream"), count(credentials, "credential"), count(len(c.Routes), "route"), c.Keys.Store, c.Listen, admin)
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func writeJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

// firstError gives the failure to print, else what was found.
func firstError(output, found error) error {
	if output != nil {
		return fmt.Errorf("print the result: %w", output)
	}
	return found
}
