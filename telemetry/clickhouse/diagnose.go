package clickhouse

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/ClickHouse/ch-go"
)

// Kind sorts what keeps the log from being written, so that a change of it is
// news and a repetition is not.
type Kind string

// The kinds.
const (
	KindHTTP     Kind = "http_port" // the HTTP interface answers
	KindTLS      Kind = "tls"       // one side speaks TLS, the other does not, or does not trust it
	KindOther    Kind = "other_server"
	KindLogin    Kind = "login"
	KindNothing  Kind = "nothing_listens"
	KindSilent   Kind = "silent"
	KindClosed   Kind = "closed"
	KindTooOld   Kind = "too_old"
	KindDatabase Kind = "no_database"
	KindTable    Kind = "no_table"
	KindColumn   Kind = "no_column"
	KindRefused  Kind = "refused" // an exception of the server
	KindNetwork  Kind = "network"
	KindConfig   Kind = "config"
)

// DialError says why there is no connection, and what to change.
type DialError struct {
	Address string
	Kind    Kind
	Text    string
	err     error
}

func (e *DialError) Error() string { return "clickhouse " + e.Address + ": " + e.Text }
func (e *DialError) Unwrap() error { return e.err }

// diagnose turns the failure of dial into words. It may ask the port once more.
func diagnose(ctx context.Context, address string, o Options, err error) error {
	var at *stageError
	if !errors.As(err, &at) {
		return err
	}
	say := func(kind Kind, format string, args ...any) error {
		return &DialError{address, kind, fmt.Sprintf(format, args...), at.err}
	}
	var record tls.RecordHeaderError
	switch {
	case at.stage == stageConfig:
		return say(KindConfig, "%v", at.err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return say(KindNothing, "nothing listens there (connection refused): start ClickHouse, or correct clickhouse.address; the native port is usually 9000, 9440 with TLS")
	case at.stage == stageDial:
		return say(KindNetwork, "cannot connect: %v: check clickhouse.address and the network", at.err)
	}
	if e, ok := ch.AsException(err); ok {
		if e.Code == 516 || e.Code == 192 || e.Code == 193 || e.Code == 194 {
			return say(KindLogin, "the server refuses the login of user %q (code %d): correct clickhouse.username and clickhouse.password or password_file", o.Username, e.Code)
		}
		return say(KindRefused, "the server refuses the connection (code %d): %s", e.Code, firstLine(e.Message))
	}
	if kind, text := answers(at.first); kind != "" {
		return say(kind, "%s", text)
	}
	if at.stage == stageTLS {
		var unknown x509.UnknownAuthorityError
		var hostname x509.HostnameError
		switch {
		case errors.As(err, &record):
			return say(KindTLS, "the port does not speak TLS: set clickhouse.tls: false, or use the TLS port, usually 9440")
		case errors.As(err, &unknown):
			return say(KindTLS, "the certificate is of an authority that is not trusted: name its certificate in clickhouse.ca_file")
		case errors.As(err, &hostname):
			return say(KindTLS, "the certificate is for another name (%v): use that name in clickhouse.address", at.err)
		case isSilent(err), errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
			return say(KindTLS, "no TLS handshake (%v): a plain port most often, then set clickhouse.tls: false; or a proxy without a backend", at.err)
		}
		return say(KindTLS, "TLS handshake: %v", at.err)
	}
	if speaksHTTP(ctx, address) {
		return say(KindHTTP, "this is ClickHouse's HTTP port, not the native one: use the native port, usually 9000, or 9440 with TLS")
	}
	if isSilent(err) {
		return say(KindSilent, "the port says nothing within %s: a TLS or HTTP port, a proxy, or a server that is stuck; the native port is usually 9000, with clickhouse.tls: true 9440", handshakeTimeout)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return say(KindClosed, "closed without a word: a TLS port (then set clickhouse.tls: true), a list of allowed addresses, or a proxy without a backend")
	}
	return say(KindNetwork, "handshake: %v", at.err)
}

// answers recognises another protocol by how its answer begins.
func answers(first []byte) (Kind, string) {
	switch {
	case bytes.HasPrefix(first, []byte("HTTP/")):
		return KindHTTP, `this port speaks HTTP, not the native protocol (packet type 72 is the "H" of ` + fmt.Sprintf("%q", first) +
			`): use the native port, usually 9000, or 9440 with TLS`
	case bytes.HasPrefix(first, []byte{0x15, 0x03}):
		return KindTLS, "the port expects TLS: set clickhouse.tls: true, or use the plain port, usually 9000"
	case bytes.HasPrefix(first, []byte("-ERR")), bytes.HasPrefix(first, []byte("+")):
		return KindOther, "a Redis answers there: correct clickhouse.address"
	case bytes.HasPrefix(first, []byte("SSH-")):
		return KindOther, "an SSH server answers there: correct clickhouse.address"
	case len(first) > 4 && first[4] == 10 && first[3] == 0:
		return KindOther, "the MySQL protocol answers there (ClickHouse's port 9004): use the native port, usually 9000"
	}
	return "", ""
}

func isSilent(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

// speaksHTTP asks once. Not every HTTP server answers a native hello: some
// wait for the end of a line.
func speaksHTTP(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return false
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	if _, err := io.WriteString(conn, "GET /ping HTTP/1.0\r\n\r\n"); err != nil {
		return false
	}
	answer, _ := io.ReadAll(io.LimitReader(conn, 512))
	return bytes.HasPrefix(answer, []byte("HTTP/"))
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "…"
	}
	return s
}
