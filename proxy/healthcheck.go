package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// HealthcheckCommand is `relay healthcheck`: for containers, which have no
// curl.
func HealthcheckCommand() *cobra.Command {
	at, ready := "127.0.0.1:8080", false
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask a running relay whether it is well; exit 0 or 1",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SilenceUsage = true
			path := pathHealth
			if ready {
				path = pathReady
			}
			text, err := healthcheck(cmd.Context(), at, path)
			if err != nil {
				return err
			}
			_, err = io.WriteString(cmd.OutOrStdout(), text)
			return err
		},
	}
	cmd.Flags().StringVar(&at, "address", at, "where the relay listens: `host:port` or unix:/path")
	cmd.Flags().BoolVar(&ready, "ready", false, "ask whether it takes new requests, not only whether it runs")
	return cmd
}

func healthcheck(ctx context.Context, at, path string) (string, error) {
	network, address := "tcp", at
	if p, ok := strings.CutPrefix(at, "unix:"); ok {
		network, address = "unix", p
	}
	client := http.Client{
		Timeout: 3 * time.Second,
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, address)
		}},
	}
	if ctx == nil {
		ctx = context.Background()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+path, nil)
	if err != nil {
		return "", fmt.Errorf("ask %s: %w", at, err)
	}
	res, err := client.Do(req)
	if err != nil {
		return "", fmt.Errorf("ask %s: %w", at, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 4096))
	if err != nil {
		return "", fmt.Errorf("ask %s: %w", at, err)
	}
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s answers %d: %s", at, res.StatusCode, strings.TrimSpace(string(text)))
	}
	return string(text), nil
}
