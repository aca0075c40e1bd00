package proxy

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"strings"
)

// guard lets through who may see and change the relay: by the bearer token
// where there is one, else whoever can reach the listener and is no web page of
// somebody else's. Liveness needs neither.
func (a *admin) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := a.token.Load()
		switch {
		case r.URL.Path == pathHealth:
		case token != nil && !hasToken(r, token):
			w.Header().Set("WWW-Authenticate", "Bearer")
			writeText(w, http.StatusUnauthorized, "the admin listener wants the bearer token of admin.token_file\n")
			return
		case token == nil && !ownHost(r):
			writeText(w, http.StatusMisdirectedRequest, "without a token the admin listener answers at an address or at localhost alone: ask there, or set admin.token_file\n")
			return
		case token == nil && crossSite(r):
			writeText(w, http.StatusForbidden, "without a token the admin listener answers no other site's page: ask it directly, or set admin.token_file\n")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func hasToken(r *http.Request, token *[sha256.Size]byte) bool {
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	sum := sha256.Sum256([]byte(strings.TrimSpace(given)))
	return strings.EqualFold(scheme, "bearer") && subtle.ConstantTimeCompare(sum[:], token[:]) == 1
}

// ownHost reports whether the request names an address or localhost: of any
// other name somebody else's DNS may say that it is this machine, so that a
// browser takes this listener for a part of his site. Of a unix socket no
// browser is the client.
func ownHost(r *http.Request) bool {
	if at, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr); at != nil && at.Network() == "unix" {
		return true
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	return strings.EqualFold(host, "localhost") || strings.HasSuffix(strings.ToLower(host), ".localhost") || net.ParseIP(host) != nil
}

// crossSite reports whether a page from elsewhere makes a browser ask
// (https://www.w3.org/TR/fetch-metadata/; Origin where a browser is too old).
func crossSite(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin", "none": // none: a person did, by the address bar
		return false
	case "":
		origin := r.Header.Get("Origin")
		return origin != "" && origin != "http://"+r.Host
	}
	return true
}
