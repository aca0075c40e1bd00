package telemetry

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// logged returns the lines that f logs, with times as TIME.
func logged(t *testing.T, level string, f func(*Log)) string {
	t.Helper()
	var s sink
	l := NewLog(&s, level)
	f(l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(s.all()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
	times := regexp.MustCompile(`"time":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"`)
	return times.ReplaceAllString(s.all(), `"time":"TIME"`)
}

func TestLogLevels(t *testing.T) {
	for level, want := range map[string]string{
		"debug": "debug info warn error", "info": "info warn error", "": "info warn error", "warn": "warn error", "error": "error",
	} {
		got := logged(t, level, func(l *Log) {
			l.Debug().Msg("d")
			l.Info().Msg("i")
			l.Warn().Msg("w")
			l.Error().Msg("e")
		})
		var levels []string
		for _, m := range regexp.MustCompile(`"level":"(\w+)"`).FindAllStringSubmatch(got, -1) {
			levels = append(levels, m[1])
		}
		if g := strings.Join(levels, " "); g != want {
			t.Errorf("level %q logs %s, want %s", level, g, want)
		}
	}
}

func TestLogLine(t *testing.T) {
	got := logged(t, "info", func(l *Log) {
		l.Debug().Msg("not yet")
		l.SetLevel("debug")
		l.Debug().Str("k", "a\"b\n").Err(errors.New("oops")).Msg("hello")
	})
	if want := `{"level":"debug","time":"TIME","k":"a\"b\n","error":"oops","message":"hello"}` + "\n"; got != want {
		t.Errorf("got  %swant %s", got, want)
	}
}

func TestANilLogLogsNothing(t *testing.T) {
	var l *Log
	l.Info().Str("k", "v").Msg("x")
	l.WarnEvery("k", time.Second).Msg("x")
	l.SetLevel("debug")
	l.ServerLog().Printf("x %d", 1)
	if l.Dropped() != 0 || l.Close() != nil {
		t.Error("a nil log did something")
	}
}

func TestAFloodOfWarningsIsOneLineWithACount(t *testing.T) {
	var got string
	synctest.Test(t, func(t *testing.T) {
		got = logged(t, "info", func(l *Log) {
			for range 100 {
				l.WarnEvery("upstream down", time.Minute).Str("upstream", "a").Msg("cannot connect")
			}
			l.WarnEvery("another", time.Minute).Msg("something else")
			time.Sleep(time.Minute)
			for range 5 {
				l.WarnEvery("upstream down", time.Minute).Msg("cannot connect")
			}
		})
	})
	const want = `{"level":"warn","time":"TIME","upstream":"a","message":"cannot connect"}
{"level":"warn","time":"TIME","message":"something else"}
{"level":"warn","time":"TIME","suppressed":99,"message":"cannot connect"}
{"level":"warn","time":"TIME","warning":"upstream down","suppressed":4,"message":"warnings held back"}
`
	if got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

func TestKeysOfWarningsAreBounded(t *testing.T) {
	var s sink
	l := NewLog(&s, "info")
	defer l.Close()
	for i := range maxWarnings + 50 {
		l.WarnEvery(fmt.Sprint("key ", i), time.Hour).Msg("w")
	}
	if n := len(l.warnings); n > maxWarnings+1 {
		t.Errorf("%d keys are kept", n)
	}
}

func TestServerLogHoldsBackWhatClientsSent(t *testing.T) {
	client := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80}
	const secret = "sk-relay-secret"
	for _, c := range []struct {
		name, format string
		args         []any
		want         string
	}{
		{
			"the bytes of a bad head", "error when serving connection %q<->%q: %v",
			[]any{client, client, fmt.Errorf("error when reading request headers: bad: buffer size=90, contents: %q", "GET / HTTP/1.1\r\nAuthorization: Bearer "+secret)},
			`error when serving connection \"192.0.2.1:80\"<->\"192.0.2.1:80\": error when reading request headers: bad: buffer size=90, contents: …`,
		},
		{
			"the query of a URL", "%.3f %s - %s",
			[]any{0.25, "#1 - a<->b - GET http://h/v1?key=" + secret, "message"},
			`0.250 #1 - a<->b - GET http://h/v1… - message`,
		},
		{"raw lines", "cannot parse: %s", []any{"bad head\r\nx-api-key: " + secret}, `cannot parse: bad head…`},
		{"long text", "x %v", []any{strings.Repeat("é", 150) + secret}, "x " + strings.Repeat("é", 100) + "…"},
		{"numbers", "%d connections for %v", []any{7, 3 * time.Second}, "7 connections for 3s"},
		{"nothing", "serve", nil, "serve"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := logged(t, "info", func(l *Log) { l.ServerLog().Printf(c.format, c.args...) })
			if want := `{"level":"warn","time":"TIME","from":"fasthttp","message":"` + c.want + `"}` + "\n"; got != want {
				t.Errorf("got  %swant %s", got, want)
			}
			if strings.Contains(got, secret) {
				t.Error("a key is in the log")
			}
		})
	}
}

func TestServerLogHoldsBackFloods(t *testing.T) {
	got := logged(t, "info", func(l *Log) {
		s := l.ServerLog()
		for i := range 1000 {
			s.Printf("error %d", i)
		}
	})
	if n := strings.Count(got, "\n"); n != 2 || !strings.Contains(got, `"suppressed":999`) {
		t.Errorf("%d lines: %s", n, got)
	}
}
