package clickhouse

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"

	"streamrelay/configs"
)

const (
	dialTimeout      = 3 * time.Second
	handshakeTimeout = 5 * time.Second // ch-go's default is 5 minutes
	// readTimeout is the most between two packets of an answer. An INSERT with
	// views answers nothing until it is done.
	readTimeout = 30 * time.Second

	// minRevision is what ch-go can talk to: below it settings are dropped
	// silently, and below 54420 every query fails with a nonsense error.
	minRevision = 54429
)

// Options say how servers are connected to.
type Options struct {
	Database    string // where the log's tables are
	Username    string
	Password    configs.Secret
	Compression string // none | lz4 | zstd
	TLS         bool
	CAFile      string // instead of the system's roots
	// ReadTimeout is the most between two packets; 0: 30 s.
	ReadTimeout time.Duration
}

// FromConfig returns the options that the section clickhouse stands for.
func FromConfig(c *configs.ClickHouse) Options {
	return Options{
		Database: c.Database, Username: c.Username, Password: c.Password,
		Compression: c.Compression, TLS: c.TLS, CAFile: c.CAFile,
	}
}

// Conn is a connection to one server. It belongs to one goroutine; after an
// error of a method it is of no more use, and Close is all that is left.
type Conn struct {
	client   *ch.Client
	database string
	address  string
}

// Dial connects to address and shakes hands. The error is a *DialError.
func Dial(ctx context.Context, address string, o Options) (*Conn, error) {
	c, err := dial(ctx, address, o)
	if err != nil {
		return nil, diagnose(ctx, address, o, err)
	}
	if r := c.client.ServerInfo(); r.Revision < minRevision {
		_ = c.Close()
		return nil, &DialError{Address: address, Kind: KindTooOld,
			Text: fmt.Sprintf("%s %d.%d is too old (revision %d, needs %d): use ClickHouse 20.8 or newer", r.Name, r.Major, r.Minor, r.Revision, minRevision)}
	}
	return c, nil
}

// stageError says how far a connection came, and what the server said first.
type stageError struct {
	stage stage
	first []byte
	err   error
}

type stage int

const (
	stageConfig stage = iota
	stageDial
	stageTLS
	stageHello
)

func (e *stageError) Error() string { return e.err.Error() }
func (e *stageError) Unwrap() error { return e.err }

func dial(ctx context.Context, address string, o Options) (*Conn, error) {
	dialing, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(dialing, "tcp", address)
	if err != nil {
		return nil, &stageError{stage: stageDial, err: err}
	}
	heard := &firstBytes{Conn: raw}
	conn := net.Conn(heard)
	if o.TLS {
		host, _, _ := net.SplitHostPort(address)
		config := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
		if o.CAFile != "" {
			if config.RootCAs, err = configs.CertPool(o.CAFile); err != nil {
				_ = raw.Close()
				return nil, &stageError{stage: stageConfig, err: fmt.Errorf("clickhouse.ca_file: %w", err)}
			}
		}
		secure := tls.Client(heard, config)
		handshake, cancel := context.WithTimeout(ctx, handshakeTimeout)
		defer cancel()
		if err := secure.HandshakeContext(handshake); err != nil {
			_ = raw.Close()
			return nil, &stageError{stageTLS, heard.first, err}
		}
		conn = secure
	}
	client, err := ch.Connect(ctx, conn, ch.Options{
		Database: "default", User: o.Username, Password: o.Password.Reveal(), ClientName: "stream-relay",
		Compression: compression(o.Compression), ReadTimeout: cmp.Or(o.ReadTimeout, readTimeout), HandshakeTimeout: handshakeTimeout,
	})
	if err != nil {
		_ = raw.Close()
		return nil, &stageError{stageHello, heard.first, err}
	}
	return &Conn{client, o.Database, address}, nil
}

// Close ends the connection.
func (c *Conn) Close() error {
	if err := c.client.Close(); err != nil && !errors.Is(err, ch.ErrClosed) {
		return err
	}
	return nil
}

// Address is the server's.
func (c *Conn) Address() string { return c.address }

// Version names the server.
func (c *Conn) Version() string {
	s := c.client.ServerInfo()
	return fmt.Sprintf("%d.%d.%d", s.Major, s.Minor, s.Patch)
}

func compression(name string) ch.Compression {
	switch name {
	case "lz4":
		return ch.CompressionLZ4
	case "zstd":
		return ch.CompressionZSTD
	}
	return ch.CompressionDisabled
}

// firstBytes remembers how an answer begins, for the diagnosis.
type firstBytes struct {
	net.Conn
	first []byte
}

func (c *firstBytes) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if len(c.first) < 16 && n > 0 {
		c.first = append(c.first, b[:min(n, 16-len(c.first))]...)
	}
	return n, err
}

// do runs one statement.
func (c *Conn) do(ctx context.Context, q ch.Query) error { return c.client.Do(ctx, q) }

// Exec runs a statement that returns nothing.
func (c *Conn) Exec(ctx context.Context, statement string) error {
	return c.do(ctx, ch.Query{Body: statement})
}

// strings runs a SELECT of n String columns.
func (c *Conn) strings(ctx context.Context, n int, statement string) ([][]string, error) {
	columns := make([]proto.ColStr, n)
	results := make(proto.Results, n)
	for i := range results {
		results[i].Data = &columns[i]
	}
	var rows [][]string
	err := c.do(ctx, ch.Query{Body: statement, Result: results, OnResult: func(_ context.Context, b proto.Block) error {
		for r := range b.Rows {
			row := make([]string, n)
			for i := range columns {
				row[i] = columns[i].Row(r)
			}
			rows = append(rows, row)
		}
		return nil
	}})
	return rows, err
}
