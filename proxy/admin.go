package proxy

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync/atomic"
	"time"

	"streamrelay/configs"
	"streamrelay/telemetry"
)

// admin is the listener for operators. It runs on net/http: nothing here is
// hot, and a fault here stays off the public listener.
type admin struct {
	ln    net.Listener
	http  *http.Server
	token atomic.Pointer[[sha256.Size]byte] // nil: loopback or unix, no token asked for
}

// newAdmin opens the listener. api serves /api/ with a token of its own; nil:
// there is none.
func newAdmin(cfg configs.Admin, p *process, api http.Handler) (*admin, error) {
	a, s := &admin{}, p.srv
	a.setToken(cfg)
	if a.ln = p.super.listener("admin"); a.ln == nil {
		ln, err := listen(cfg.Listen)
		if err != nil {
			return nil, &listenError{"admin.listen", err}
		}
		a.ln = ln
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathHealth, func(w http.ResponseWriter, _ *http.Request) { writeText(w, 200, "ok\n") })
	mux.HandleFunc("GET "+pathReady, func(w http.ResponseWriter, _ *http.Request) {
		status, text := s.readyState()
		writeText(w, status, text)
	})
	mux.HandleFunc("GET "+pathMetrics, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", telemetry.ContentType)
		s.tel.WriteMetrics(w)
	})
	mux.HandleFunc("GET /upstreams", s.upstreamStates)
	mux.HandleFunc("GET /config", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/yaml")
		_ = s.Config().Print(w) // the reader's business
	})
	mux.HandleFunc("POST /reload", func(w http.ResponseWriter, _ *http.Request) {
		if err := p.reloadFile(); err != nil {
			writeText(w, http.StatusUnprocessableEntity, "refused; the configuration of before stays\n"+err.Error()+"\n")
			return
		}
		writeText(w, 200, "reloaded\n")
	})
	mux.HandleFunc("GET /loglevel", func(w http.ResponseWriter, _ *http.Request) { writeText(w, 200, p.log.Level()+"\n") })
	mux.HandleFunc("PUT /loglevel", p.setLogLevel)
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	outer := http.NewServeMux()
	outer.Handle("/", a.guard(mux))
	page := p.live.Handler(a.guard)
	outer.Handle("GET /{$}", page)
	outer.Handle("GET /live/", page)
	if api != nil {
		outer.Handle("/api/", api)
	}
	a.http = &http.Server{
		Handler:           outer,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      5 * time.Minute, // a profile takes as long as it is asked to,
		IdleTimeout:       90 * time.Second,
		MaxHeaderBytes:    16 << 10,
	}
	return a, nil
}

// setToken takes another token up.
func (a *admin) setToken(cfg configs.Admin) {
	if token := cfg.Token.Reveal(); token != "" {
		sum := sha256.Sum256([]byte(token))
		a.token.Store(&sum)
	} else {
		a.token.Store(nil)
	}
}

// setLogLevel changes the log's level until the next reload.
func (p *process) setLogLevel(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(io.LimitReader(r.Body, 16))
	level := strings.TrimSpace(string(b))
	switch level {
	case "debug", "info", "warn", "error":
		p.log.SetLevel(level)
		writeText(w, 200, level+"\n")
	default:
		writeText(w, http.StatusBadRequest, "write debug, info, warn or error\n")
	}
}

// serve answers until close.
func (a *admin) serve() error {
	if err := a.http.Serve(a.ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve admin listener: %w", err)
	}
	return nil
}

func (a *admin) close() {
	_ = a.http.Close()
	_ = a.ln.Close()
}

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text))
}
