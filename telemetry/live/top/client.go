package top

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"
)

const (
	// maxEvent is more than everything that a relay keeps is as JSON.
	maxEvent = 8 << 20
	// silence is how long a relay may say nothing that says something each second.
	silence = 10 * time.Second
	// backoff is waited before a relay is asked again, doubled up to longestBackoff.
	backoff        = 500 * time.Millisecond
	longestBackoff = 5 * time.Second
)

// client asks one relay.
type client struct {
	base  string
	token string
	http  http.Client
}

// newClient takes the URL of an admin listener, or unix:/path.
func newClient(at, token string) (*client, error) {
	c := &client{base: strings.TrimSuffix(at, "/"), token: token}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ResponseHeaderTimeout: silence, DialContext: (&net.Dialer{Timeout: silence}).DialContext}
	if path, ok := strings.CutPrefix(at, "unix:"); ok {
		c.base = "http://localhost"
		transport.Proxy = nil
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
	} else if u, err := url.Parse(at); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return nil, errors.New("--url: want the admin listener as http://host:port, https://… or unix:/path")
	}
	c.http.Transport = transport
	return c, nil
}

// refusal is an answer that asking again would not change.
type refusal struct{ error }

func (c *client) get(ctx context.Context, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return nil, err
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := c.http.Do(req)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: start the relay, or give --url what its admin.listen says", err)
	case err != nil:
		return nil, err
	}
	if res.StatusCode == http.StatusOK {
		return res, nil
	}
	text, _ := io.ReadAll(io.LimitReader(res.Body, 300))
	res.Body.Close()
	switch res.StatusCode {
	case http.StatusUnauthorized:
		if c.token == "" {
			return nil, refusal{errors.New("the relay asks for a token: give --token-file the file that admin.token_file names")}
		}
		return nil, refusal{errors.New("the relay does not take the token of --token-file")}
	case http.StatusNotFound:
		return nil, refusal{fmt.Errorf("%s has no live page: --url wants the admin listener of a relay", c.base)}
	}
	return nil, fmt.Errorf("%s answers %d: %s", c.base, res.StatusCode, clean(strings.TrimSpace(string(text))))
}

// state returns everything, in JSON.
func (c *client) state(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	res, err := c.get(ctx, "/live/state")
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxEvent))
	if err != nil {
		return nil, fmt.Errorf("read the state: %w", err)
	}
	return raw, nil
}

// event is one of /live/events, or why there is none: lost says that the relay
// went away and is asked again.
type event struct {
	name string
	raw  []byte
	lost error
}

// follow sends events until ctx ends or the relay refuses.
func (c *client) follow(ctx context.Context, to chan<- event) error {
	wait := backoff
	for {
		err := c.stream(ctx, func(e event) error {
			wait = backoff
			select {
			case to <- e:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.As(err, new(refusal)) {
			return err
		}
		select {
		case to <- event{lost: err}:
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
		wait = min(2*wait, longestBackoff)
	}
}

// stream reads events until the connection ends; it never returns nil.
func (c *client) stream(ctx context.Context, each func(event) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	res, err := c.get(ctx, "/live/events")
	if err != nil {
		return err
	}
	defer res.Body.Close()
	quiet := time.AfterFunc(silence, cancel)
	defer quiet.Stop()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(make([]byte, 64<<10), maxEvent)
	name := ""
	for lines.Scan() {
		line := lines.Bytes()
		if after, ok := bytes.CutPrefix(line, []byte("event: ")); ok {
			name = string(after)
		}
		data, ok := bytes.CutPrefix(line, []byte("data: "))
		if !ok {
			continue
		}
		quiet.Reset(silence)
		if err := each(event{name: name, raw: bytes.Clone(data)}); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read the events: %w", err)
	}
	return errors.New("the relay has ended the connection")
}
