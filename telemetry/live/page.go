package live

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"time"
)

// page holds the files of the page; uplot/ is not ours, see its README.
//
//go:embed page/*.html page/*.js page/*.css page/*.svg page/uplot/*.js page/uplot/*.css
var page embed.FS

// policy lets the page load and ask nothing but this relay, run no script that
// is not a file of its own, and send no form anywhere: what is typed into it
// can get into no URL.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

var mediaTypes = map[string]string{
	".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml",
}

// servePage adds the page and its files.
func servePage(mux *http.ServeMux) {
	for at, file := range map[string]string{
		"/{$}":                "page/index.html",
		"/live/live.css":      "page/live.css",
		"/live/live.js":       "page/live.js",
		"/live/stream.js":     "page/stream.js",
		"/live/charts.js":     "page/charts.js",
		"/live/tables.js":     "page/tables.js",
		"/live/format.js":     "page/format.js",
		"/live/icon.svg":      "page/icon.svg",
		"/live/uplot.min.js":  "page/uplot/uPlot.iife.min.js",
		"/live/uplot.min.css": "page/uplot/uPlot.min.css",
	} {
		body, err := fs.ReadFile(page, file)
		if err != nil {
			panic("BUG: a file of the page: " + err.Error())
		}
		sum := sha256.Sum256(body)
		tag := `"` + hex.EncodeToString(sum[:8]) + `"`
		kind := mediaTypes[path.Ext(file)]
		mux.HandleFunc("GET "+at, func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h.Set("Content-Type", kind)
			h.Set("Content-Security-Policy", policy)
			h.Set("X-Content-Type-Options", "nosniff")
			h.Set("Referrer-Policy", "no-referrer")
			h.Set("Cross-Origin-Opener-Policy", "same-origin")
			h.Set("Cache-Control", "no-cache")
			h.Set("ETag", tag)
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
		})
	}
}
