package clickhouse

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"streamrelay/configs"
)

// exitError carries the process's exit code (sysexits.h).
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }
func (e *exitError) ExitCode() int { return e.code }

const (
	exitUnavailable = 69
	exitConfig      = 78
)

// MigrateCommand is `relay migrate`: it makes the request log's tables in
// ClickHouse, or brings them up to date. version is the program's.
func MigrateCommand(version string) *cobra.Command {
	path, dry := "relay.yaml", false
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Make or update the request log's tables in ClickHouse",
		Long: `Migrate applies the numbered statements that this version ships and the server
has not had, and the times to live that the configuration asks for. Columns are
only ever added, so that relays of other versions go on working meanwhile. With
clickhouse.cluster the tables are made on every server of it, replicated.

One relay's operator runs it at a time: ClickHouse has no lock for this. Every
statement can be repeated; after an error, correct what it says and run again.`,
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, err := configs.Load(path, nil)
			if err != nil {
				return err
			}
			if !c.ClickHouse.Enabled() {
				return &exitError{exitConfig, fmt.Errorf("%s names no ClickHouse: set clickhouse.address", path)}
			}
			return migrate(cmd, c, version, dry)
		},
	}
	cmd.Flags().StringVarP(&path, "config", "c", path, "the configuration `file`")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "print the statements and change nothing")
	return cmd
}

// migrate runs on one server of each shard that has none of another's replicas
// in common; on a cluster, on one server in all.
func migrate(cmd *cobra.Command, config *configs.Config, version string, dry bool) error {
	s, c := SchemaOf(config), &config.ClickHouse
	servers := c.Servers()
	if s.Cluster != "" {
		servers = servers[:1]
	}
	out := cmd.OutOrStdout()
	for _, replicas := range servers {
		conn, err := dialAny(cmd.Context(), replicas, FromConfig(c))
		if err != nil {
			return &exitError{exitUnavailable, err}
		}
		defer conn.Close()
		steps, err := conn.Pending(cmd.Context(), s)
		if err != nil {
			return err
		}
		if dry {
			for _, step := range steps {
				fmt.Fprintf(out, "-- %s: %04d %s\n%s;\n\n", conn.Address(), step.Version, step.Name, step.SQL)
			}
		} else if err := conn.Apply(cmd.Context(), s, steps, version, func(step Step) {
			fmt.Fprintf(out, "%s: applied %04d %s\n", conn.Address(), step.Version, step.Name)
		}); err != nil {
			return err
		}
		if len(steps) == 0 {
			fmt.Fprintf(out, "%s: up to date\n", conn.Address())
		}
	}
	return nil
}

// dialAny connects to the first of addresses that answers.
func dialAny(ctx context.Context, addresses []string, o Options) (*Conn, error) {
	var all []error
	for _, address := range addresses {
		conn, err := Dial(ctx, address, o)
		if err == nil {
			return conn, nil
		}
		all = append(all, err)
	}
	return nil, errors.Join(all...)
}

// DialShard connects to the first of a shard's replicas that answers.
func DialShard(ctx context.Context, c *configs.ClickHouse, replicas []string) (*Conn, error) {
	return dialAny(ctx, replicas, FromConfig(c))
}

// DialAny connects to the first server of any shard that answers, for readers
// of a cluster.
func DialAny(ctx context.Context, c *configs.ClickHouse) (*Conn, error) {
	var all []error
	for _, replicas := range c.Servers() {
		conn, err := dialAny(ctx, replicas, FromConfig(c))
		if err == nil {
			return conn, nil
		}
		all = append(all, err)
	}
	return nil, errors.Join(all...)
}
