package auth

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"streamrelay/auth/limits"
)

// changes are the fields of a key that create, import and update take; one that
// is left out stays as it is, null takes a restriction away.
type changes struct {
	Name     json.RawMessage `json:"name"`
	Tenants  json.RawMessage `json:"tenants"`
	Models   json.RawMessage `json:"models"`
	Paths    json.RawMessage `json:"paths"`
	Limits   json.RawMessage `json:"limits"`
	Expires  json.RawMessage `json:"expires"`
	Metadata json.RawMessage `json:"metadata"`
}

func (c *changes) apply(r *Record) error {
	clearTo := r.Expires
	for _, f := range []struct {
		name string
		raw  json.RawMessage
		to   any
	}{{"name", c.Name, &r.Name}, {"tenants", c.Tenants, &r.Tenants}, {"models", c.Models, &r.Models}, {"paths", c.Paths, &r.Paths}, {"limits", c.Limits, &r.Limits}, {"expires", c.Expires, &r.Expires}, {"metadata", c.Metadata, &r.Metadata}} {
		if f.raw == nil {
			continue
		}
		reset(f.to) // else a list or map would be written into
		if err := json.Unmarshal(f.raw, f.to); err != nil {
			return bad("%s: %w", f.name, jsonProblem(err))
		}
	}
	if len(r.Tenants) == 0 {
		r.Tenants = []string{defaultTenant}
	}
	if len(r.Models) == 0 {
		r.Models = nil
	}
	if len(r.Paths) == 0 {
		r.Paths = nil
	}
	if len(r.Metadata) == 0 {
		r.Metadata = nil
	}
	r.Expires = r.Expires.UTC()
	if !r.Expires.Equal(clearTo) && !r.Expires.IsZero() && !r.Expires.After(time.Now()) {
		return bad("expires: lies in the past")
	}
	if len(r.Metadata) > 64 {
		return bad("metadata: more than 64 names")
	}
	for name, value := range r.Metadata {
		if checkMetadata(name, value) != nil {
			return bad("metadata: want names of A-Z a-z 0-9 . _ - and printable texts of at most 256 bytes")
		}
	}
	if r.Name == "" {
		r.Name = r.ID
	}
	if err := r.check(); err != nil {
		return badInput{err}
	}
	return nil
}

func reset(to any) {
	switch p := to.(type) {
	case *string:
		*p = ""
	case *[]string:
		*p = nil
	case *limits.Limits:
		*p = limits.Limits{}
	case *time.Time:
		*p = time.Time{}
	case *map[string]string:
		*p = nil
	}
}

// grant reads what a new key may do.
func (c *changes) grant() (grant, error) {
	r := &Record{ID: "new"}
	if err := c.apply(r); err != nil {
		return grant{}, err
	}
	if r.Name == "new" && c.Name == nil {
		r.Name = ""
	}
	return grant{r.Name, r.Tenants, r.Models, r.Paths, r.Limits, r.Expires, r.Metadata}, nil
}

func (a *api) list(ctx context.Context, _ *http.Request) (int, any, error) {
	records, _, err := a.keeper.read(ctx)
	if err != nil && !errors.Is(err, errNoFile) {
		return 0, nil, err
	}
	views, err := viewsOf(ctx, a.keeper, records, time.Now())
	return http.StatusOK, map[string]any{"keys": views}, err
}

func (a *api) create(ctx context.Context, r *http.Request) (int, any, error) {
	var c changes
	if err := readBody(r, &c); err != nil {
		return 0, nil, err
	}
	g, err := c.grant()
	if err != nil {
		return 0, nil, err
	}
	key, record, err := createKey(ctx, a.keeper, g, time.Now())
	if err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, created{record.ID, key, record.Name, record.Tenants}, nil
}

func (a *api) importRaw(ctx context.Context, r *http.Request) (int, any, error) {
	var body struct {
		Keys []string `json:"keys"`
		changes
	}
	if err := readBody(r, &body); err != nil {
		return 0, nil, err
	}
	if len(body.Keys) == 0 {
		return 0, nil, bad("keys: want at least one")
	}
	for i, key := range body.Keys {
		err := checkImport(key)
		if key == "" {
			err = errNotImportable
		}
		if err != nil {
			return 0, nil, bad("keys[%d]: %w", i, err)
		}
	}
	g, err := body.grant()
	if err != nil {
		return 0, nil, err
	}
	records, err := importKeys(ctx, a.keeper, body.Keys, g, time.Now())
	if err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, map[string]any{"keys": plainViews(records)}, nil
}

func plainViews(records []*Record) []recordView {
	views, now := make([]recordView, 0, len(records)), time.Now()
	for _, r := range records {
		views = append(views, viewOf(r, now))
	}
	return views
}

func (a *api) export(ctx context.Context, _ *http.Request) (int, any, error) {
	file, err := exportOf(ctx, a.keeper)
	return http.StatusOK, file, err
}

func (a *api) restore(ctx context.Context, r *http.Request) (int, any, error) {
	records, err := importExport(ctx, a.keeper, r.Body, r.URL.Query().Get("replace") == "true")
	if err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, map[string]any{"keys": plainViews(records)}, nil
}

func (a *api) show(ctx context.Context, r *http.Request) (int, any, error) {
	record, err := a.keeper.get(ctx, r.PathValue("key"))
	if err != nil {
		return 0, nil, err
	}
	views, err := viewsOf(ctx, a.keeper, []*Record{record}, time.Now())
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, views[0], nil
}

// changedView is a key after a change, and what follows of it.
type changedView struct {
	recordView
	Note string `json:"note,omitempty"` // whether replicas have it
}

func (a *api) update(ctx context.Context, r *http.Request) (int, any, error) {
	var c changes
	if err := readBody(r, &c); err != nil {
		return 0, nil, err
	}
	record, said, err := a.keeper.change(ctx, r.PathValue("key"), c.apply)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, changedView{viewOf(record, time.Now()), said}, nil
}

func (a *api) revoke(ctx context.Context, r *http.Request) (int, any, error) {
	record, said, _, err := revokeKey(ctx, a.keeper, r.PathValue("key"), time.Now())
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, changedView{viewOf(record, time.Now()), said}, nil
}

func (a *api) turn(ctx context.Context, r *http.Request, disabled bool) (int, any, error) {
	record, said, err := switchKey(ctx, a.keeper, r.PathValue("key"), disabled)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, changedView{viewOf(record, time.Now()), said}, nil
}

func (a *api) tenantList(ctx context.Context, _ *http.Request) (int, any, error) {
	_, tenants, err := a.keeper.read(ctx)
	if err != nil && !errors.Is(err, errNoFile) {
		return 0, nil, err
	}
	views, err := tenantViews(ctx, a.keeper, tenants)
	return http.StatusOK, map[string]any{"tenants": views}, err
}

func (a *api) tenantSet(ctx context.Context, r *http.Request) (int, any, error) {
	t := &Tenant{Name: r.PathValue("tenant")}
	if err := checkOneTenant(t.Name); err != nil {
		return 0, nil, bad("tenant: %w", err)
	}
	var body struct {
		Limits json.RawMessage `json:"limits"`
	}
	if err := readBody(r, &body); err != nil {
		return 0, nil, err
	}
	if err := json.Unmarshal(body.Limits, &t.Limits); err != nil {
		return 0, nil, bad("limits: %w", jsonProblem(err))
	}
	if t.Limits.None() {
		return 0, nil, bad("limits: want at least one; DELETE takes them away")
	}
	if err := a.keeper.setTenant(ctx, t.Name, t); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, tenantView{Tenant: t.Name, Limits: t.Limits}, nil
}

func (a *api) tenantRemove(ctx context.Context, r *http.Request) (int, any, error) {
	if err := checkOneTenant(r.PathValue("tenant")); err != nil {
		return 0, nil, bad("tenant: %w", err)
	}
	if err := a.keeper.setTenant(ctx, r.PathValue("tenant"), nil); err != nil {
		return 0, nil, err
	}
	return http.StatusNoContent, nil, nil
}
