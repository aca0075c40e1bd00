package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"streamrelay/bench/simulate"
)

// Probe sends one request of each kind and reports whether the simulated
// provider answered, so that answers can be checked to the last byte. An
// endpoint that refuses one is an error that says what it said.
func Probe(ctx context.Context, where Endpoint, requests []Request) (exact bool, err error) {
	e, err := where.resolve()
	if err != nil {
		return false, err
	}
	transport := &http.Transport{
		TLSClientConfig:   e.tls,
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", e.addr)
		},
	}
	client := &http.Client{Transport: transport, Timeout: time.Minute}
	id := fmt.Sprintf("probe%x", simulate.Now())
	for i := range requests {
		said, err := probe(ctx, client, e, &requests[i], id)
		if err != nil {
			return false, fmt.Errorf("%s does not answer a %s request: %w", where.URL, requests[i].Name, err)
		}
		// It is asked for a name that no other provider would give its answer.
		exact = exact || strings.Contains(said, id)
	}
	return exact, nil
}

func probe(ctx context.Context, client *http.Client, e *endpoint, q *Request, id string) (said string, err error) {
	scheme := "http://"
	if e.tls != nil {
		scheme = "https://"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, scheme+e.host+e.path+q.Path, strings.NewReader(q.Body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+e.Key)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Simulate", "ttft=0,gap=0,hold=0,events=2,id="+id)
	if strings.HasSuffix(q.Path, "/messages") {
		req.Header.Set("x-api-key", e.Key)
		req.Header.Set("anthropic-version", "2023-06-01")
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if resp.StatusCode != 200 {
		text := withoutKey(string(b[:min(len(b), maxSaid)]), e.Key)
		return "", fmt.Errorf("status %d: %s", resp.StatusCode, strings.Join(strings.Fields(text), " "))
	}
	if err != nil {
		return "", fmt.Errorf("read its answer: %w", err)
	}
	if len(b) == 0 {
		return "", errors.New("its answer is empty")
	}
	return string(b), nil
}
