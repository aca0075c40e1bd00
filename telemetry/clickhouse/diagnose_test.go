package clickhouse

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"streamrelay/configs"
	"streamrelay/configs/porttest"
	"streamrelay/telemetry/clickhouse/chtest"
)

// answering serves each connection by f.
func answering(t *testing.T, f func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			f(c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = ln.Close(); <-done })
	return ln.Addr().String()
}

// saying answers the first bytes of a client with text.
func saying(text string) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = c.Read(make([]byte, 1024))
		_, _ = io.WriteString(c, text)
	}
}

func TestEachFaultOfAConnectionIsToldApartWithWhatToChange(t *testing.T) {
	s := chtest.Start(t, "-password", "right")
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	for _, c := range []struct {
		name, address string
		tls           bool
		kind          Kind
		want          string
	}{
		{"nothing listens", porttest.DeadAddress(t), false, KindNothing, "start ClickHouse, or correct clickhouse.address"},
		{"ClickHouse's HTTP port", s.HTTP, false, KindHTTP, `packet type 72 is the "H" of`},
		{"an HTTP server that waits for a line", answering(t, func(c net.Conn) {
			b := make([]byte, 1024)
			n, _ := c.Read(b)
			if strings.HasPrefix(string(b[:n]), "GET ") {
				_, _ = io.WriteString(c, "HTTP/1.0 200 OK\r\n\r\nOk.\n")
			}
		}), false, KindHTTP, "use the native port, usually 9000"},
		{"a TLS port that alerts", answering(t, saying("\x15\x03\x01\x00\x02\x02\x46")), false, KindTLS, "set clickhouse.tls: true"},
		{"a port that closes without a word", answering(t, func(net.Conn) {}), false, KindClosed, "a TLS port (then set clickhouse.tls: true)"},
		{"a Redis", answering(t, saying("-ERR unknown command\r\n")), false, KindOther, "a Redis answers"},
		{"an SSH server", answering(t, saying("SSH-2.0-OpenSSH\r\n")), false, KindOther, "an SSH server answers"},
		{"the MySQL port", answering(t, saying("\x4a\x00\x00\x00\x0a8.0")), false, KindOther, "port 9004"},
		{"a wrong password", s.Native, false, KindLogin, "correct clickhouse.username and clickhouse.password"},
		{"TLS to a plain port", web.Listener.Addr().String(), true, KindHTTP, "native port"},
		{"TLS of an unknown authority", secure.Listener.Addr().String(), true, KindTLS, "clickhouse.ca_file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, err := Dial(context.Background(), c.address, Options{Username: "default", Password: configs.NewSecret("PLANTED"), TLS: c.tls})
			if err == nil {
				_ = conn.Close()
				t.Fatal("no error")
			}
			var dial *DialError
			if !errors.As(err, &dial) || dial.Kind != c.kind || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v (want %s: %q)", err, c.kind, c.want)
			}
			if strings.Contains(err.Error(), "PLANTED") {
				t.Errorf("the password stands in %v", err)
			}
		})
	}
}

func TestErrorsOfAStatementSayWhatToDo(t *testing.T) {
	s := chtest.Start(t)
	for code, want := range map[int]struct {
		class Class
		text  string
	}{
		252: {ClassRetry, "code 252"}, 241: {ClassRetry, "code 241"}, 999: {ClassRetry, "code 999"},
		74: {ClassRetry, "code 74"}, 75: {ClassRetry, "code 75"}, 76: {ClassRetry, "code 76"},
		499: {ClassRetry, "code 499"}, 745: {ClassRetry, "code 745"}, 1001: {ClassRetry, "code 1001"},
		47: {ClassWait, "code 47"}, 469: {ClassPoison, "code 469"},
		60: {ClassWait, "relay migrate"}, 81: {ClassWait, "there is no database"}, 16: {ClassWait, "lacks a column"},
		27: {ClassPoison, "code 27"}, 53: {ClassPoison, "code 53"}, 12345: {ClassPoison, "code 12345"},
	} {
		conn := dialed(t, s)
		s.Fault("exception", "code", strconv.Itoa(code))
		err := conn.Exec(t.Context(), "SELECT 1")
		s.Fault("none")
		class, known := Classify(err)
		if class != want.class || known != (code != 12345) || !strings.Contains(conn.Explain(err).Error(), want.text) {
			t.Errorf("%d: %v, known %t, %v", code, class, known, conn.Explain(err))
		}
	}
}

// TestAConstraintIsWaitedForWhereItIsTheViews: the log's own refuses rows, which
// can hold any text; that of what a view writes to is the operator's to correct.
func TestAConstraintIsWaitedForWhereItIsTheViews(t *testing.T) {
	s := chtest.Start(t)
	conn := dialed(t, s)
	apply(t, conn, Schema{Name: "relay", Retention: day, UsageRetention: day, BodyRetention: day})
	const insert = "INSERT INTO relay.request_log (id, ts, tenant) SELECT generateUUIDv4(), now(), ': while pushing to view relay.usage_1h_mv'"
	for table, want := range map[string]Class{"request_log": ClassPoison, "usage_1h": ClassWait} {
		s.Query("ALTER TABLE relay." + table + " ADD CONSTRAINT broken CHECK tenant = 'nobody'")
		err := conn.Exec(t.Context(), insert)
		if class, known := Classify(err); class != want || !known || Code(err) != 469 {
			t.Errorf("of %s: %v, known %t: %v", table, class, known, err)
		}
		s.Query("ALTER TABLE relay." + table + " DROP CONSTRAINT broken")
	}
}
