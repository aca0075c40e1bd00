package bench

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"streamrelay/bench/load"
	"streamrelay/bench/report"
)

// options are the command line.
type options struct {
	Load
	version  string
	scenario []string
	url, key string
	keyFile  string
	direct   string
	model    string
	provider string
	admin    string
	pid      int
	caFile   string
	insecure bool
	check    string
	timeout  time.Duration
	tries    int
	slo      string
	findMax  bool
	compare  bool
	remote   bool
	json     bool
	hgrm     string
	html     string
	out      string
}

// keyVariable holds the key where none is given, since arguments can be read by
// every process of the machine.
const keyVariable = "RELAY_BENCH_KEY"

// Bounds of what can be asked for.
const (
	minDuration = 100 * time.Millisecond
	maxDuration = 24 * time.Hour
	maxStreams  = 200_000
)

// complete checks the command line and fills in what it leaves open.
func (o *options) complete(args []string) error {
	o.scenario = args
	if o.compare {
		if len(args) != 2 {
			return errors.New("--compare wants two files")
		}
		return nil
	}
	if len(args) == 0 {
		return errors.New("which scenario? relay bench --help lists them")
	}
	for _, name := range args {
		if name == "frontier" {
			if o.Rate != 0 || o.Hold != 0 || o.direct != "" || o.slo != "" || o.findMax || o.tries > 1 {
				return errors.New("frontier looks for rates and streams by itself: --rate, --hold, --direct, --slo, --find-max and --tries are not for it")
			}
			continue
		}
		s, err := Find(name)
		if err != nil {
			return err
		}
		if s.Loop == load.Cancel && o.provider == "" && o.direct == "" {
			return errors.New("scenario cancel wants --provider (or --direct): the URL of the simulated provider, which knows when it noticed")
		}
		if o.Rate > 0 && (s.Loop == load.Streams || s.Loop == load.Cancel) {
			return fmt.Errorf("scenario %s sends nothing by schedule: take --rate out, and say how much with --streams", name)
		}
		if o.findMax && (s.Loop == load.Cancel || o.slo == "" && s.SLO == "") {
			return fmt.Errorf("--find-max wants --slo, such as p99=50ms,errors=0, and a scenario other than cancel")
		}
	}
	for name, bad := range map[string]bool{
		"--url URL is needed":                                     o.url == "",
		"--rate: want 0 to 200000 requests a second":              !(o.Rate >= 0 && o.Rate <= maxRate),
		"--streams and --hold: want 0 to 200000":                  o.Streams < 0 || o.Streams > maxStreams || o.Hold < 0 || o.Hold > maxStreams,
		"--duration: want 100ms to 24h":                           o.Duration < minDuration || o.Duration > maxDuration,
		"--model: want 1 to 256 characters":                       len(o.model) == 0 || len(o.model) > 256,
		"--tries: want 1 to 20":                                   o.tries < 1 || o.tries > 20,
		"--timeout: want 1ms to 1h":                               o.timeout < time.Millisecond || o.timeout > time.Hour,
		"--check: want auto, exact or form":                       o.check != "auto" && o.check != "exact" && o.check != "form",
		"--hgrm holds one distribution: name one scenario":        o.hgrm != "" && len(args) > 1,
		"--find-max confirms by itself: take --tries out":         o.findMax && o.tries > 1,
		"--find-max and --direct do not go together":              o.findMax && o.direct != "",
		"--pid and --admin both tell CPU and memory: give one":    o.pid != 0 && o.admin != "",
		"--pid: no such process":                                  o.pid < 0 || o.pid > 0 && unix.Kill(o.pid, 0) == unix.ESRCH,
		"--duration is too long for streams of an event each gap": o.Duration > 12*time.Hour && slices.Contains(args, "paced"),
	} {
		if bad {
			return errors.New(name)
		}
	}
	if _, err := report.ParseSLO(o.slo); err != nil {
		return fmt.Errorf("--slo: %w", err)
	}
	if o.keyFile != "" {
		b, err := os.ReadFile(o.keyFile)
		if err != nil {
			return fmt.Errorf("--key-file: %w", err)
		}
		o.key = strings.TrimSpace(string(b))
	}
	if o.key == "" {
		o.key = os.Getenv(keyVariable)
	}
	if !o.remote {
		for _, u := range []string{o.url, o.direct, o.provider, o.admin} {
			if u != "" && !strings.HasPrefix(u, "http://") && !strings.HasPrefix(u, "https://") {
				return fmt.Errorf("%s is no URL: write http://%s", u, u)
			}
			if u != "" && !(load.Endpoint{URL: u}).Loopback() {
				return fmt.Errorf("%s is not on this machine: load goes there only with --yes-remote, and should only go to what is yours", u)
			}
		}
	}
	return nil
}
