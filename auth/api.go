package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"streamrelay/auth/limits"
)

const (
	maxAPIBody     = 1 << 20
	maxRestoreBody = 256 << 20
	apiTime        = 30 * time.Second
)

// api is `relay keys` over HTTP.
type api struct {
	*Store
	token [sha256.Size]byte
}

// route is one operation; configs/keys-api.openapi.yaml describes each.
type route struct {
	pattern string
	serve   func(*api, context.Context, *http.Request) (status int, body any, err error)
}

func apiRoutes() []route {
	return []route{
		{"GET /api/keys", (*api).list},
		{"POST /api/keys", (*api).create},
		{"POST /api/keys/import", (*api).importRaw},
		{"GET /api/keys/export", (*api).export},
		{"POST /api/keys/restore", (*api).restore},
		{"GET /api/keys/{key}", (*api).show},
		{"PATCH /api/keys/{key}", (*api).update},
		{"POST /api/keys/{key}/revoke", (*api).revoke},
		{"POST /api/keys/{key}/disable", func(a *api, ctx context.Context, r *http.Request) (int, any, error) { return a.turn(ctx, r, true) }},
		{"POST /api/keys/{key}/enable", func(a *api, ctx context.Context, r *http.Request) (int, any, error) { return a.turn(ctx, r, false) }},
		{"GET /api/tenants", (*api).tenantList},
		{"PUT /api/tenants/{tenant}", (*api).tenantSet},
		{"DELETE /api/tenants/{tenant}", (*api).tenantRemove},
	}
}

// API returns the handler of /api/, which asks for the bearer token itself: who
// mounts it must not ask for another. nil: the configuration has no token, so
// there is no such API. It serves the admin listener alone.
func (s *Store) API() http.Handler {
	token := s.apiToken.Reveal()
	if token == "" {
		return nil
	}
	a := &api{Store: s, token: sha256.Sum256([]byte(token))}
	mux := http.NewServeMux()
	for _, rt := range apiRoutes() {
		mux.HandleFunc(rt.pattern, func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithTimeout(r.Context(), apiTime)
			defer cancel()
			limit := int64(maxAPIBody)
			if strings.HasSuffix(rt.pattern, "/restore") {
				limit = maxRestoreBody
			}
			r.Body = http.MaxBytesReader(w, r.Body, limit)
			status, body, err := rt.serve(a, ctx, r)
			if err != nil {
				status, body = problem(err)
			}
			if r.Method != http.MethodGet {
				s.log.Info().Str("operation", rt.pattern).Int("status", status).Str("client", r.RemoteAddr).Str("subject", subjectOfRequest(r, body)).Msg("key API")
			}
			answer(w, status, body)
		})
	}
	mux.HandleFunc("/api/", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusNotFound, apiError("not_found", "no such operation; see keys-api.openapi.yaml"))
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		sum := sha256.Sum256([]byte(strings.TrimSpace(given)))
		if !strings.EqualFold(scheme, "bearer") || subtle.ConstantTimeCompare(sum[:], a.token[:]) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			answer(w, http.StatusUnauthorized, apiError("unauthorized", "want the bearer token of keys.api_token_file"))
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// subjectOfRequest is what a request is about, for the log: never a key.
func subjectOfRequest(r *http.Request, body any) string {
	switch made := body.(type) {
	case created:
		return made.ID
	case changedView:
		return made.ID
	}
	s := r.PathValue("key") + r.PathValue("tenant")
	if resemblesKey(s) || len(s) > maxNameLength || !printable(s) {
		return "(not shown)"
	}
	return s
}

type apiProblem struct {
	Error struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

func apiError(code, message string) (p apiProblem) {
	p.Error.Code, p.Error.Message = code, message
	return p
}

// badInput is a mistake of the caller.
type badInput struct{ error }

func bad(format string, args ...any) error { return badInput{fmt.Errorf(format, args...)} }

// problem says what went wrong in the caller's terms.
func problem(err error) (status int, body apiProblem) {
	var taken *takenError
	var input badInput
	var size *http.MaxBytesError
	var coded *exitError
	switch {
	case errors.As(err, &size):
		return http.StatusRequestEntityTooLarge, apiError("too_large", fmt.Sprintf("the body is larger than %d bytes", size.Limit))
	case errors.Is(err, errNoSuchKey), errors.Is(err, errNoSuchTenant):
		return http.StatusNotFound, apiError("not_found", strings.SplitN(err.Error(), ";", 2)[0])
	case errors.Is(err, errRevoked):
		return http.StatusConflict, apiError("revoked", err.Error())
	case errors.As(err, &taken):
		return http.StatusConflict, apiError("taken", err.Error())
	case errors.As(err, &input):
		return http.StatusBadRequest, apiError("bad_request", err.Error())
	case errors.As(err, &coded) && coded.code == exitUnavailable:
		return http.StatusServiceUnavailable, apiError("unavailable", err.Error())
	}
	return http.StatusInternalServerError, apiError("internal", err.Error())
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Cache-Control", "no-store")
	if body == nil {
		w.WriteHeader(status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = printJSON(w, body)
}

// readBody reads the one JSON object of a request; none is an empty one.
func readBody(r *http.Request, v any) error {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	if len(data) == 0 {
		data = []byte("{}")
	}
	if err := decodeStrict(data, v); err != nil {
		return bad("the body: %w", err)
	}
	return nil
}

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
		if err := checkImport(key); err != nil || key == "" {
			return 0, nil, bad("keys[%d]: %w", i, errors.Join(err))
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
