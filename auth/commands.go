package auth

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"streamrelay/auth/limits"
)

// created is what create prints as JSON, and the API answers.
type created struct {
	ID      string   `json:"id"`
	Key     string   `json:"key"`
	Name    string   `json:"name"`
	Tenants []string `json:"tenants"`
}

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
			return at.run(cmd, func(ctx context.Context, k keeper) error {
				key, r, err := createKey(ctx, k, g, now)
				if err != nil {
					return err
				}
				if asJSON {
					err = printJSON(cmd.OutOrStdout(), created{r.ID, key, r.Name, r.Tenants})
				} else {
					_, err = fmt.Fprintln(cmd.OutOrStdout(), key)
				}
				if err != nil {
					return fmt.Errorf("print the key (revoke %s, which nobody has seen): %w", r.ID, err)
				}
				if asJSON {
					return nil
				}
				fmt.Fprintf(cmd.ErrOrStderr(), "created %s (%s); the key is not shown again\n", r.ID, r.Name)
				return nil
			})
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
		Short: "List the keys, revoked ones too, and what they used of their limits",
		Args:  usageArgs(cobra.NoArgs, "takes no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return at.run(cmd, func(ctx context.Context, k keeper) error {
				records, _, err := k.read(ctx)
				if err != nil {
					return err
				}
				views, err := viewsOf(ctx, k, records, time.Now())
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), views)
				}
				return printTable(cmd.OutOrStdout(), views)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
	return cmd
}

func showCommand(at *location) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show ID|NAME",
		Short: "Show what a key may do, and what it used of its limits",
		Args:  oneKeyArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			return at.run(cmd, func(ctx context.Context, k keeper) error {
				r, err := k.get(ctx, args[0])
				if err != nil {
					return err
				}
				views, err := viewsOf(ctx, k, []*Record{r}, time.Now())
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), views[0])
				}
				return views[0].print(cmd.OutOrStdout())
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

// told prints what became of a key, as words or as JSON.
func told(cmd *cobra.Command, asJSON bool, r *Record, words, said string) error {
	if asJSON {
		return printJSON(cmd.OutOrStdout(), viewOf(r, time.Now()))
	}
	_, err := fmt.Fprintf(cmd.ErrOrStderr(), "%s %s (%s); %s\n", words, r.ID, r.Name, said)
	return err
}

func updateCommand(at *location) *cobra.Command {
	flags := grantFlags{clears: true}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "update ID|NAME",
		Short: "Change a key's name, rights or limits",
		Long: `Change what the flags name; the rest stays. A list (--tenant, --model, --path)
takes the place of the one before; an empty value takes a restriction away:
--model '' allows every model, --requests-per-minute 0 sets no limit,
--expires never lets it live, --metadata team= takes the name away.`,
		Args: oneKeyArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			now := time.Now()
			if err := flags.apply(&Record{}, now); err != nil {
				return err // before anything is asked of the store
			}
			return at.run(cmd, func(ctx context.Context, k keeper) error {
				r, said, err := k.change(ctx, args[0], func(r *Record) error { return flags.apply(r, now) })
				if err != nil {
					return err
				}
				return told(cmd, asJSON, r, "changed", said)
			})
		},
	}
	flags.register(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the key's record as a JSON object")
	return cmd
}

func switchCommand(at *location, name, short string, disabled bool) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   name + " ID|NAME",
		Short: short,
		Args:  oneKeyArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			return at.run(cmd, func(ctx context.Context, k keeper) error {
				r, said, err := switchKey(ctx, k, args[0], disabled)
				if err != nil {
					return err
				}
				return told(cmd, asJSON, r, name+"d", said)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the key's record as a JSON object")
	return cmd
}

func revokeCommand(at *location) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "revoke ID|NAME",
		Short: "Refuse a key from now on, for good",
		Args:  oneKeyArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			return at.run(cmd, func(ctx context.Context, k keeper) error {
				r, said, already, err := revokeKey(ctx, k, args[0], time.Now())
				if err != nil {
					return err
				}
				if already && !asJSON {
					_, err := fmt.Fprintf(cmd.ErrOrStderr(), "%s (%s) was revoked at %s\n", r.ID, r.Name, r.Revoked.Format(time.RFC3339))
					return err
				}
				return told(cmd, asJSON, r, "revoked", said)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the key's record as a JSON object")
	return cmd
}

func tenantCommand(at *location) *cobra.Command {
	const want = "want one of: list, set, remove"
	cmd := &cobra.Command{
		Use:   "tenant",
		Short: "List, set and remove what all keys of a tenant may use together",
		Args:  usageArgs(cobra.NoArgs, want),
		RunE:  func(*cobra.Command, []string) error { return usageError(want) },

		SuggestionsMinimumDistance: 2,
	}
	var asJSON bool
	list := &cobra.Command{
		Use:   "list",
		Short: "List the tenants that have limits, and what they used of them",
		Args:  usageArgs(cobra.NoArgs, "takes no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return at.run(cmd, func(ctx context.Context, k keeper) error {
				_, tenants, err := k.read(ctx)
				if err != nil {
					return err
				}
				views, err := tenantViews(ctx, k, tenants)
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), views)
				}
				return printTenants(cmd.OutOrStdout(), views)
			})
		},
	}
	list.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
	var flags limitFlags
	set := &cobra.Command{
		Use:   "set TENANT",
		Short: "Set a tenant's limits: all of them, those that are not named are none",
		Args:  oneTenantArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			t := &Tenant{Name: args[0]}
			if !flags.given(cmd) {
				return usageError("%s: name at least one limit, such as --requests-per-minute 600", cmd.CommandPath())
			}
			if err := flags.apply(cmd, &t.Limits); err != nil {
				return err
			}
			return at.run(cmd, func(ctx context.Context, k keeper) error {
				if err := k.setTenant(ctx, t.Name, t); err != nil {
					return err
				}
				_, err := fmt.Fprintf(cmd.ErrOrStderr(), "set the limits of %s: %s\n", t.Name, limitsText(t.Limits, limits.UnknownUsage))
				return err
			})
		},
	}
	flags.register(set)
	remove := &cobra.Command{
		Use:   "remove TENANT",
		Short: "Take a tenant's limits away; its keys keep their own",
		Args:  oneTenantArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			return at.run(cmd, func(ctx context.Context, k keeper) error { return k.setTenant(ctx, args[0], nil) })
		},
	}
	cmd.AddCommand(list, set, remove)
	return cmd
}

func oneTenantArg(cmd *cobra.Command, args []string) error {
	if len(args) != 1 || checkOneTenant(args[0]) != nil {
		return usageError("%s: want one tenant: %w", cmd.CommandPath(), errNotOneTenant)
	}
	return nil
}

func adoptCommand(at *location) *cobra.Command {
	return &cobra.Command{
		Use:   "adopt",
		Short: "Say that the keys in Redis are all there are, after Redis lost some",
		Long: `Relays keep the keys that they know when Redis comes back without them, and say
so. Restore them from an export (relay keys import --exported), or say with this
command that what Redis holds now is meant: relays then refuse all other keys.`,
		Args: usageArgs(cobra.NoArgs, "takes no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return at.run(cmd, func(ctx context.Context, k keeper) error {
				r, ok := k.(*redisKeeper)
				if !ok {
					return usageError("%s: is for keys in Redis; a keys file is followed as it is", cmd.CommandPath())
				}
				return r.adopt(ctx)
			})
		},
	}
}
