package auth

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func importCommand(at *location) *cobra.Command {
	var flags grantFlags
	var asJSON, exported, replace bool
	cmd := &cobra.Command{
		Use:   "import -",
		Short: "Take over keys that exist, read from standard input",
		Long: `Take over keys that exist already, of any form, read from standard input, one a
line: relay keys import --name laptop - < key.txt
With --exported, the input is what relay keys export printed.

A key is never an argument: arguments can be seen by every user of the machine
and stay in the shell's history. All keys of the input are imported, or none
(into Redis, more than 500 at once go in several steps).`,
		Args: usageArgs(func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] != "-" {
				return errors.New("not -")
			}
			return nil
		}, `want - alone: keys are read from standard input, one a line, since arguments can be seen by other users and stay in the shell's history (what was given is not repeated here; if it was a key, take it as known to others)`),
		RunE: func(cmd *cobra.Command, _ []string) error {
			now := time.Now()
			g, err := flags.grant(now)
			if err != nil {
				return err
			}
			if replace && !exported {
				return usageError("%s: --replace goes with --exported alone", cmd.CommandPath())
			}
			return at.run(cmd, func(ctx context.Context, k keeper) error {
				var records []*Record
				if exported {
					records, err = importExport(ctx, k, cmd.InOrStdin(), replace)
				} else {
					var keys []string
					if keys, err = readKeys(cmd.InOrStdin()); err == nil {
						records, err = importKeys(ctx, k, keys, g, now)
					}
				}
				if err != nil {
					return err
				}
				if asJSON {
					views := make([]recordView, 0, len(records))
					for _, r := range records {
						views = append(views, viewOf(r, now))
					}
					return printJSON(cmd.OutOrStdout(), views)
				}
				for _, r := range records {
					fmt.Fprintf(cmd.OutOrStdout(), "%s\t%s\n", r.ID, r.Name)
					if !r.Revoked.IsZero() {
						fmt.Fprintf(cmd.ErrOrStderr(), "%s (%s) was revoked at %s, and stays so\n", r.ID, r.Name, r.Revoked.Format(time.RFC3339))
					}
				}
				return nil
			})
		},
	}
	flags.register(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
	cmd.Flags().BoolVar(&exported, "exported", false, "the input is what export printed")
	cmd.Flags().BoolVar(&replace, "replace", false, "with --exported: let records take the place of those with the same id and digest; what was revoked stays so")
	return cmd
}

// readKeys reads raw keys, one a line. Its errors name lines, never keys.
func readKeys(in io.Reader) ([]string, error) {
	const maxInput = 8 << 20
	var keys []string
	limited := &io.LimitedReader{R: in, N: maxInput}
	lines := bufio.NewScanner(limited)
	lines.Buffer(nil, 2*maxKeyLength)
	for n := 1; lines.Scan(); n++ {
		key := strings.TrimSpace(lines.Text())
		if key == "" {
			continue
		}
		if err := checkImport(key); err != nil {
			return nil, fmt.Errorf("line %d of the input: %w; nothing was imported", n, err)
		}
		keys = append(keys, key)
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, fmt.Errorf("the input has a line that is too long: %w; nothing was imported", errNotImportable)
	case err != nil:
		return nil, fmt.Errorf("read standard input: %w", err)
	case limited.N == 0:
		return nil, fmt.Errorf("the input is larger than %d MiB; nothing was imported", maxInput>>20)
	case len(keys) == 0:
		return nil, usageError("standard input holds no key: write one a line")
	}
	return keys, nil
}
