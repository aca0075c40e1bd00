package simulate

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// Command returns the command "simulate", which serves until it is interrupted.
func Command() *cobra.Command {
	var (
		listen, certFile, keyFile, caOut, profile, dist, trace string
		useTLS                                                 bool
		o                                                      Options
	)
	cmd := &cobra.Command{
		Use:   "simulate",
		Short: "Serve a simulated LLM provider",
		Long: "Serve the OpenAI, Anthropic and Gemini APIs with made-up answers.\n\n" +
			"The flags say how a request is answered; a request changes that for itself by the header\n" +
			"X-Simulate: ttft=150ms,gap=20ms,events=200,size=180,error=429,stall=5,cut=5,…\n" +
			"GET /sim/stats shows what was served, /sim/cancels which clients left and when; /sim/freeze?for=2s stops all answers.",
		Example: "  relay simulate --listen 127.0.0.1:8081 --ttft 150ms --gap 20ms\n" +
			"  curl -N http://127.0.0.1:8081/v1/chat/completions -H 'Authorization: Bearer any' -d '{\"model\":\"m\",\"stream\":true}'",
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.Profile.Dist, err = distribution(dist); err != nil {
				return usageError{fmt.Errorf("--dist %q: %w", dist, err)}
			}
			if trace != "" {
				if o.Trace, err = LoadTrace(trace); err != nil {
					return err
				}
				o.Profile.Dist = Traced
			}
			if o.Profile, err = ParseProfile(o.Profile, []byte(profile)); err != nil {
				return usageError{fmt.Errorf("--profile: %w", err)}
			}
			for name, v := range map[string]int{"events": o.Profile.Events, "size": o.Profile.Size, "prompt": o.Profile.Prompt} {
				if v == 0 { // which to Options is the default
					return usageError{fmt.Errorf("%s 0: want 1 at least; a request asks for none by X-Simulate: %s=0", name, name)}
				}
			}
			if o.Profile.Dist == Traced && trace == "" {
				return usageError{errors.New("dist trace needs --trace FILE")}
			}
			if o.TLS, err = serverTLS(useTLS, certFile, keyFile, caOut); err != nil {
				return err
			}
			return run(cmd, o, listen)
		},
	}
	p := &o.Profile
	f := cmd.Flags()
	f.StringVar(&listen, "listen", "127.0.0.1:8081", "address to listen on; port 0 picks a free one")
	f.DurationVar(&p.TTFT, "ttft", 150*time.Millisecond, "time to the first content event")
	f.DurationVar(&p.Head, "head", 0, "time to the head and the opening events (0: with the first content event)")
	f.DurationVar(&p.Gap, "gap", 20*time.Millisecond, "time between two content events")
	f.DurationVar(&p.Jitter, "jitter", 0, "move each gap by up to this")
	f.StringVar(&dist, "dist", "constant", "how TTFT and gaps are drawn: constant, exponential or lognormal; the times given are their means")
	f.Float64Var(&p.Sigma, "sigma", defaultSigma, "of lognormal: the standard deviation of the logarithm")
	f.StringVar(&trace, "trace", "", "take TTFT and gaps from this file: milliseconds, one answer a line, in turns")
	f.IntVar(&p.Events, "events", 64, "content events in an answer; also its completion tokens")
	f.IntVar(&p.Size, "size", 220, "bytes of a content event, at least its envelope")
	f.IntVar(&p.Prompt, "prompt", 7, "prompt tokens")
	f.IntVar(&p.Error, "error", 0, "answer everything with this status")
	f.StringVar(&profile, "profile", "", "more of the same, in the words of X-Simulate")
	f.StringVar(&o.Key, "key", "", "the only credential taken (default: any)")
	f.BoolVar(&useTLS, "tls", false, "speak TLS with a certificate made in memory")
	f.StringVar(&certFile, "tls-cert", "", "speak TLS with this certificate (PEM)")
	f.StringVar(&keyFile, "tls-key", "", "key of --tls-cert (PEM)")
	f.StringVar(&caOut, "tls-ca-out", "", "write the certificate made by --tls here, for clients to trust")
	cmd.MarkFlagsRequiredTogether("tls-cert", "tls-key")
	cmd.MarkFlagsMutuallyExclusive("tls", "tls-cert")
	return cmd
}

// usageError is a mistake in how the command was called.
type usageError struct{ error }

// ExitCode is the process's.
func (usageError) ExitCode() int { return 2 }

// Unwrap returns the mistake.
func (e usageError) Unwrap() error { return e.error }

// serverTLS returns nil where neither a made nor a given certificate is asked
// for.
func serverTLS(made bool, certFile, keyFile, caOut string) (*tls.Config, error) {
	switch {
	case made:
		cert, certPEM, _, err := SelfSigned()
		if err != nil {
			return nil, err
		}
		if caOut != "" {
			if err := os.WriteFile(caOut, certPEM, 0o644); err != nil {
				return nil, fmt.Errorf("write the certificate: %w", err)
			}
		}
		return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, nil
	case certFile != "":
		cert, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return nil, fmt.Errorf("load the certificate: %w", err)
		}
		return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, nil
	}
	return nil, nil
}

func run(cmd *cobra.Command, o Options, listen string) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The heap is a few megabytes; collecting it less often costs nothing.
	debug.SetGCPercent(400)
	p, err := New(o)
	if err != nil {
		return err
	}
	addr, err := p.Start(listen)
	if err != nil {
		return err
	}
	scheme := "http"
	if o.TLS != nil {
		scheme = "https"
	}
	fmt.Fprintf(cmd.OutOrStdout(), "simulated provider on %s://%s\n", scheme, addr)
	<-ctx.Done()
	return p.Close()
}
