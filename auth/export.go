package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// exportFile is what export prints: everything but the keys themselves. With
// the pepper, where there is one, it is a whole backup.
type exportFile struct {
	Format  int          `json:"relay_keys_export"`
	Pepper  string       `json:"pepper"` // its mark: the digests are good with this pepper alone
	Keys    []recordJSON `json:"keys"`
	Tenants []tenantJSON `json:"tenants"`
}

const exportFormat = 1

func exportCommand(at *location) *cobra.Command {
	return &cobra.Command{
		Use:   "export",
		Short: "Print all records and limits as JSON, for a backup or another store",
		Long: `Print all records, digests included, and the tenants' limits as JSON. It holds no
key, but guesses at weak imported keys can be tested against it: keep it secret.
relay keys import --exported - takes it in, in this or another store.`,
		Args: usageArgs(cobra.NoArgs, "takes no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return at.run(cmd, func(ctx context.Context, k keeper) error {
				file, err := exportOf(ctx, k)
				if err != nil {
					return err
				}
				encoder := json.NewEncoder(cmd.OutOrStdout())
				encoder.SetEscapeHTML(false)
				encoder.SetIndent("", " ")
				return encoder.Encode(file)
			})
		},
	}
}

func exportOf(ctx context.Context, k keeper) (*exportFile, error) {
	records, tenants, err := k.read(ctx)
	if err != nil {
		return nil, err
	}
	file := &exportFile{exportFormat, pepperMark(k.pepper()), make([]recordJSON, len(records)), make([]tenantJSON, len(tenants))}
	for i, r := range records {
		file.Keys[i] = jsonOf(r)
	}
	for i, t := range tenants {
		file.Tenants[i] = tenantJSON{t.Name, t.Limits, t.Version}
	}
	return file, nil
}

// importExport stores what an export holds.
func importExport(ctx context.Context, k keeper, in io.Reader, replace bool) ([]*Record, error) {
	const maxInput = 1 << 30
	data, err := io.ReadAll(io.LimitReader(in, maxInput+1))
	if err != nil {
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	if len(data) > maxInput {
		return nil, fmt.Errorf("the input is larger than %d MiB", maxInput>>20)
	}
	var file exportFile
	if err := decodeStrict(data, &file); err != nil {
		return nil, badInput{fmt.Errorf("the input is no export: %w; nothing was imported", err)}
	}
	switch {
	case file.Format != exportFormat:
		return nil, bad(`the input is not what "relay keys export" of this version prints; nothing was imported`)
	case file.Pepper != pepperMark(k.pepper()) && len(file.Keys) > 0:
		return nil, &exitError{exitConfig, errors.New("the export was made with another pepper, or without one: its keys would never be found; nothing was imported")}
	}
	records := make([]*Record, len(file.Keys))
	for i := range file.Keys {
		if records[i], err = file.Keys[i].record(); err != nil {
			return nil, bad("key %d of the export: %w; nothing was imported", i+1, err)
		}
	}
	tenants := make([]*Tenant, len(file.Tenants))
	for i, t := range file.Tenants {
		if err := checkOneTenant(t.Tenant); err != nil {
			return nil, bad("tenant %d of the export: %w; nothing was imported", i+1, err)
		}
		tenants[i] = &Tenant{Name: t.Tenant, Limits: t.Limits}
	}
	err = k.add(ctx, records, replace)
	var taken *takenError
	if errors.As(err, &taken) {
		return nil, fmt.Errorf("key %d of the export: %w; nothing was imported", taken.index+1, err)
	}
	if err != nil {
		return nil, err
	}
	for _, t := range tenants {
		if err := k.setTenant(ctx, t.Name, t); err != nil {
			return nil, fmt.Errorf("the keys are imported, tenant %q is not: %w", t.Name, err)
		}
	}
	return records, nil
}
