package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"streamrelay/bench/load"
)

// TestMain lets the test binary be started again as provider, load generator
// and goproxy, as the command itself is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if role, ok := roles[os.Args[1]]; ok {
			exit(role(os.Args[2:]))
		}
	}
	os.Exit(m.Run())
}

func quick(t *testing.T) *settings {
	t.Helper()
	s, err := parse([]string{"-streams", "20", "-held", "20", "-cancels", "5", "-window", "200ms"})
	if err != nil {
		t.Fatal(err)
	}
	return &s
}

// TestScenariosPassThroughPeers runs the real thing, small.
func TestScenariosPassThroughPeers(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes for some seconds")
	}
	s := quick(t)
	for _, tt := range []struct {
		peer, scenario string
		tls            bool
	}{
		{"nginx", "paced", true}, {"nginx", "json", false}, {"nginx", "cancel", false},
		{"haproxy", "paced", false}, {"haproxy", "burst", true}, {"haproxy", "cancel", false},
		{"direct", "json", false}, {"direct", "paced", true}, {"direct", "cancel", true},
		{"goproxy", "burst", false}, {"goproxy", "cancel", true},
	} {
		t.Run(tt.peer+" "+tt.scenario, func(t *testing.T) {
			for name, path := range map[string]string{"nginx": s.nginx, "haproxy": s.haproxy} {
				if tt.peer == name && exec.Command(path, "-v").Run() != nil {
					need(t, name+" is not installed: apt-get install "+name)
				}
			}
			res, err := turn(context.Background(), s, t.TempDir(), tt.scenario, tt.peer, tt.tls)
			if err != nil {
				t.Fatal(err)
			}
			if res.Errors != 0 || res.Requests == 0 || res.Never != 0 {
				t.Errorf("%d requests, errors %v %v, %d never noticed", res.Requests, res.ByClass, res.Examples, res.Never)
			}
			if tt.scenario != "cancel" && tt.peer != "direct" && res.Cost.Peer <= 0 {
				t.Errorf("no CPU measured: %+v", res.Cost)
			}
		})
	}
}

// need skips a test for want of a server, or fails it where all have to be there.
func need(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("REQUIRE_SERVERS") == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
}

func TestWithRunsACommandBesideAPeer(t *testing.T) {
	s, err := parse([]string{"-with", "goproxy", "sh", "-c", `test -n "$URL" && test -n "$KEY" && test -n "$DIRECT" && kill -0 $PID && exit 7`})
	if err != nil {
		t.Fatal(err)
	}
	if err := with(context.Background(), &s, t.TempDir()); err == nil || !strings.Contains(err.Error(), "sh: exit status 7") {
		t.Error(err)
	}
	if _, err := parse([]string{"-with", "goproxy"}); err == nil || !strings.Contains(err.Error(), "behind the flags a command") {
		t.Error(err)
	}
}

func TestTurnsThatHaveEndedAreKept(t *testing.T) {
	s := quick(t)
	s.peers, s.scenarios, s.reps = []string{"direct", "relay"}, []string{"json"}, 3
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for _, end := range []func() error{func() error { return errors.New("it fell over") }, func() error { cancel(); return nil }} {
		n := 0
		all, err := turns(ctx, s, func(string, string, bool) (load.Result, error) {
			if n++; n == 4 {
				return load.Result{}, end()
			}
			return load.Result{Valid: true}, nil
		})
		if len(all) != 3 || err == nil {
			t.Errorf("%d turns, %v", len(all), err)
		}
	}
}

func TestParseRefusesWhatItDoesNotKnow(t *testing.T) {
	for args, want := range map[string]string{
		"-peers nginx,envoy":    `-peers: there is no "envoy"`,
		"-scenarios paced,fast": `-scenarios: there is no "fast"`,
		"-tls maybe":            `-tls "maybe": want no, yes or both`,
		"-reps 0":               "no arguments, 1 to 100 turns, windows of 100ms to 10m",
		"-window 1ms":           "no arguments, 1 to 100 turns, windows of 100ms to 10m",
		"paced":                 "no arguments, 1 to 100 turns, windows of 100ms to 10m",
	} {
		if _, err := parse(strings.Fields(args)); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", args, err, want)
		}
	}
}

func TestReportShowsMediansAndRatios(t *testing.T) {
	s := quick(t)
	s.peers, s.scenarios = []string{"nginx", "relay"}, []string{"paced"}
	var all []outcome
	for i, cpu := range []int64{30_000, 10_000, 20_000} {
		all = append(all,
			outcome{Scenario: "paced", Peer: "nginx", Turn: i, Result: load.Result{Measures: load.Measures{Requests: 10}, Valid: true, Seconds: 1, Cost: load.Cost{Events: 1, Peer: cpu}}},
			outcome{Scenario: "paced", Peer: "relay", Turn: i, Result: load.Result{Measures: load.Measures{Requests: 10}, Seconds: 1, Cost: load.Cost{Events: 1, Peer: cpu / 2}, Errors: 1, ByClass: map[string]int64{"cut": 1}}})
	}
	var b bytes.Buffer
	report(&b, s, all)
	got := strings.Join(strings.Fields(b.String()), " ")
	want := "paced: streams with an event each 50 ms; 20 open peer µs/event events/s delay p50 µs p99 µs provider µs/event load µs/event errors of valid turns " +
		"nginx 20.0 1.00 0 0 0 0 0 30 3 of 3 relay 10.0 (0.50) 1.00 0 0 0 0 3 30 0 of 3"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestChildThatEndsAtOnceSaysWhy(t *testing.T) {
	e := &env{settings: quick(t), dir: t.TempDir()}
	defer e.stop()
	c, err := e.start("/bin/sh", "-c", "echo no such thing; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	addr, err := freeAddr()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.ready(ctx, addr); err == nil || !strings.Contains(err.Error(), "exit status 3): no such thing") {
		t.Error(err)
	}
}
