package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	maxAPIBody     = 1 << 20
	maxRestoreBody = 256 << 20
	apiTime        = 30 * time.Second
)

// api is `relay keys` over HTTP.
type api struct {
	*Store
	keeper keeper
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
// mounts it must not ask for another. While the configuration has no token, it
// answers 404 to everything. It serves the admin listener alone.
func (s *Store) API() http.Handler {
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
			status, body, err := rt.serve(&api{s, s.keeper()}, ctx, r)
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
		token := s.token.Load()
		if token == nil {
			http.NotFound(w, r)
			return
		}
		scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		sum := sha256.Sum256([]byte(strings.TrimSpace(given)))
		if !strings.EqualFold(scheme, "bearer") || subtle.ConstantTimeCompare(sum[:], token[:]) != 1 {
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
