package auth

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"
)

func createCommand(at *location) *cobra.Command {
	var flags grantFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a key and print it, once",
		Args:  usageArgs(cobra.NoArgs, "takes no arguments; a name goes into --name"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			now := time.Now()
			g, err := flags.grant(now)
			if err != nil {
				return err
			}
			path, err := at.path(cmd)
			if err != nil {
				return err
			}
			key, r, err := createKey(path, g, now)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), struct {
					ID      string   `json:"id"`
					Key     string   `json:"key"`
					Name    string   `json:"name"`
					Tenants []string `json:"tenants"`
				}{r.ID, key, r.Name, r.Tenants})
			}
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), key); err != nil {
				return fmt.Errorf("print the key (revoke %s, which nobody has seen): %w", r.ID, err)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "created %s (%s); the key is not shown again\n", r.ID, r.Name)
			return nil
		},
	}
	flags.register(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

func listCommand(at *location) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the keys, revoked ones too",
		Args:  usageArgs(cobra.NoArgs, "takes no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := at.path(cmd)
			if err != nil {
				return err
			}
			records, err := readRecords(path)
			if err != nil {
				return err
			}
			now := time.Now()
			if asJSON {
				views := make([]recordView, 0, len(records))
				for _, r := range records {
					views = append(views, viewOf(r, now))
				}
				return printJSON(cmd.OutOrStdout(), views)
			}
			return printTable(cmd.OutOrStdout(), records, now)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
	return cmd
}

func showCommand(at *location) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show ID|NAME",
		Short: "Show what a key may do",
		Args:  oneKeyArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := at.path(cmd)
			if err != nil {
				return err
			}
			records, err := readRecords(path)
			if err != nil {
				return err
			}
			i, err := find(records, args[0])
			if err != nil {
				return err
			}
			view := viewOf(records[i], time.Now())
			if asJSON {
				return printJSON(cmd.OutOrStdout(), view)
			}
			return view.print(cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

func revokeCommand(at *location) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ID|NAME",
		Short: "Refuse a key from now on, for good",
		Args:  oneKeyArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := at.path(cmd)
			if err != nil {
				return err
			}
			r, already, err := revokeKey(path, args[0], time.Now())
			switch {
			case err != nil:
				return err
			case already:
				fmt.Fprintf(cmd.ErrOrStderr(), "%s (%s) was revoked at %s\n", r.ID, r.Name, r.Revoked.Format(time.RFC3339))
			default:
				fmt.Fprintf(cmd.ErrOrStderr(), "revoked %s (%s); a running relay refuses it within a second\n", r.ID, r.Name)
			}
			return nil
		},
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

// readRecords is ReadFile where no file means no keys yet.
func readRecords(path string) ([]*Record, error) {
	records, err := ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf(`keys file %q does not exist; "relay keys create" makes it`, path)
	}
	return records, err
}
