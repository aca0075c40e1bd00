package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"streamrelay/bench/load"
	"streamrelay/bench/report"
)

// Command returns the command "bench".
func Command(version string) *cobra.Command {
	o := options{version: version}
	var about strings.Builder
	for _, s := range Scenarios() {
		fmt.Fprintf(&about, "  %-9s %s\n", s.Name, s.About)
	}
	cmd := &cobra.Command{
		Use:   "bench SCENARIO... --url URL",
		Short: "Measure an endpoint and check every answer",
		Long: "Drive an OpenAI-compatible endpoint with requests and check every answer: to the last byte where the simulated\n" +
			"provider (relay simulate) answers, up to the terminal event where another does.\n\nScenarios:\n" + about.String() +
			"  frontier  requests/s at each p99 latency, and how many streams are carried whole\n\n" +
			"With --rate requests come by schedule and latency counts from the time at which each was due. A run in which the\n" +
			"generator itself was late, or did not send one, or the endpoint of --direct failed, is not valid. Exit code 1: not valid, or a bound of --slo is broken.",
		Example: "  relay bench json --url http://127.0.0.1:8080 --key $KEY --rate 500\n" +
			"  relay bench paced --url http://127.0.0.1:8080 --key $KEY --direct http://127.0.0.1:8081 --streams 1000\n" +
			"  relay bench json --url http://127.0.0.1:8080 --key $KEY --find-max --slo p99=50ms,errors=0\n" +
			"  relay bench rate json paced --url http://127.0.0.1:8080 --key $KEY --html report.html\n" +
			"  relay bench --compare before.json after.json",
		Args:         func(_ *cobra.Command, args []string) error { return o.complete(args) },
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			if o.compare {
				return o.runCompare(cmd.OutOrStdout())
			}
			return o.run(ctx, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.url, "url", "", "the endpoint, such as http://127.0.0.1:8080 (/v1 is meant where no path is given)")
	f.StringVar(&o.key, "key", "", "its key (default $"+keyVariable+")")
	f.StringVar(&o.keyFile, "key-file", "", "file that holds the key")
	f.Float64Var(&o.Rate, "rate", 0, "requests a second by schedule; a closed-loop scenario becomes an open-loop one")
	f.IntVar(&o.Streams, "streams", 0, "connections of a closed loop, streams held open, the most connections of an open loop, or clients that leave")
	f.DurationVar(&o.Duration, "duration", 10*time.Second, "what is measured, after a second of warm-up")
	f.StringVar(&o.model, "model", "simulated", "the model that requests name")
	f.StringVar(&o.direct, "direct", "", "URL of the provider behind the endpoint: gets the same load in turns (ABBA; of streams half), the difference is reported")
	f.StringVar(&o.provider, "provider", "", "scenario cancel: URL of the simulated provider, asked when it noticed (default --direct)")
	f.IntVar(&o.Hold, "hold", 0, "streams held open meanwhile")
	f.StringVar(&o.Simulate, "simulate", "", "what else the simulated provider is asked for, as in X-Simulate")
	f.IntVar(&o.pid, "pid", 0, "the endpoint's process: its CPU and memory (with its children's) are read")
	f.StringVar(&o.admin, "admin", "", "URL of the endpoint's metrics, for CPU and memory where there is no --pid")
	f.StringVar(&o.check, "check", "auto", "exact: to the last byte; form: up to the terminal event; auto: as the first answer shows")
	f.StringVar(&o.slo, "slo", "", "bounds such as p99=50ms,errors=0.1%,ttft_p99=300ms,delay_p50=1ms,added_p99=5ms,rate=500,kib=32")
	f.BoolVar(&o.findMax, "find-max", false, "look for the highest rate (or number of streams) within --slo, confirmed three times")
	f.IntVar(&o.tries, "tries", 1, "how often a scenario is run until the generator was in time; the last run is reported")
	f.DurationVar(&o.timeout, "timeout", 30*time.Second, "when an answer is given up, beyond what it takes by plan")
	f.StringVar(&o.caFile, "ca-file", "", "certificate authority of an https endpoint (PEM)")
	f.BoolVar(&o.insecure, "insecure", false, "take any certificate")
	f.BoolVar(&o.remote, "yes-remote", false, "send load to another machine than this one")
	f.BoolVar(&o.json, "json", false, "print JSON: one report, or a list of several")
	f.StringVar(&o.out, "out", "", "write the JSON to this file, too")
	f.StringVar(&o.hgrm, "hgrm", "", "write the latencies' percentile distribution to this file, for HdrHistogram's plotter")
	f.StringVar(&o.html, "html", "", "write the report as one HTML page to this file")
	f.BoolVar(&o.compare, "compare", false, "compare two files written by --json")
	cmd.MarkFlagsMutuallyExclusive("key", "key-file")
	return cmd
}

func (o *options) runCompare(w io.Writer) error {
	a, err := report.Load(o.scenario[0])
	if err != nil {
		return err
	}
	b, err := report.Load(o.scenario[1])
	if err != nil {
		return err
	}
	return report.Compare(w, a, b)
}

// errBroken is the end of a run that was not valid or broke its SLO; the report
// has said so.
var errBroken = errors.New("not valid, or a bound of the SLO is broken")

func (o *options) run(ctx context.Context, out, messages io.Writer) error {
	load.Alone()
	p := newProgress(messages)
	var all []*report.Report
	passed := true
	if err := o.writable(); err != nil {
		return err
	}
	var failed error
	for _, name := range o.scenario {
		r, err := o.one(ctx, name, p)
		p.end()
		if err != nil {
			failed = fmt.Errorf("scenario %s: %w", name, err) // what ended before it is reported
			break
		}
		all = append(all, r)
		passed = passed && r.Passed()
		if !o.json {
			if err := r.Text(out); err != nil {
				return err
			}
			if len(o.scenario) > 1 {
				fmt.Fprintln(out)
			}
		}
		if ctx.Err() != nil {
			break
		}
	}
	if len(all) > 0 {
		if err := o.write(out, all); err != nil {
			return errors.Join(failed, err)
		}
	}
	if failed != nil {
		return failed
	}
	if !passed {
		return errBroken
	}
	return nil
}

// writable finds out before a run whether its files can be written.
func (o *options) writable() error {
	for _, name := range []string{o.out, o.hgrm, o.html} {
		if name == "" {
			continue
		}
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o644)
		if err != nil {
			return fmt.Errorf("write a report: %w", err)
		}
		f.Close()
	}
	return nil
}

// write writes the forms that were asked for.
func (o *options) write(out io.Writer, all []*report.Report) error {
	asJSON := func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", " ")
		if len(all) == 1 {
			return e.Encode(all[0])
		}
		return e.Encode(all)
	}
	if o.json {
		if err := asJSON(out); err != nil {
			return err
		}
	}
	for _, f := range []struct {
		name string
		form func(io.Writer) error
	}{
		{o.out, asJSON},
		{o.hgrm, func(w io.Writer) error { return report.HGRM(w, all[0].Curves["latency"], all[0].Latency) }},
		{o.html, func(w io.Writer) error { return report.HTML(w, "relay bench", all) }},
	} {
		if f.name == "" {
			continue
		}
		file, err := os.Create(f.name)
		if err != nil {
			return fmt.Errorf("write a report: %w", err)
		}
		if err := errors.Join(f.form(file), file.Close()); err != nil {
			return fmt.Errorf("write %s: %w", f.name, err)
		}
	}
	return nil
}

// one runs a scenario.
func (o *options) one(ctx context.Context, name string, p *progress) (*report.Report, error) {
	if name == "frontier" {
		return o.frontier(ctx, p)
	}
	s, err := Find(name)
	if err != nil {
		return nil, err
	}
	slo := s.SLO
	if o.slo != "" {
		slo = o.slo
	}
	bounds, err := report.ParseSLO(slo)
	if err != nil {
		return nil, err
	}
	exact, err := o.exact(ctx, s.Requests)
	if err != nil {
		return nil, err
	}
	measure := func(ctx context.Context, l Load) (*report.Report, error) {
		j := s.Job(l)
		j.Memory = j.Memory && (o.pid != 0 || o.admin != "")
		r, err := o.measure(ctx, j, exact, name, p)
		if err == nil {
			r.Scenario, r.About = s.Name, s.About+"; "+Describe(j)
			if j.Hold > 0 {
				r.About += fmt.Sprintf("; %d more streams held open", j.Hold)
			}
			r.Judge(bounds)
		}
		return r, err
	}
	if !o.findMax {
		return tries(ctx, o.tries, func() (*report.Report, error) { return measure(ctx, o.Load) })
	}
	of, start, most := "requests/s", o.Rate, float64(maxRate)
	if s.Loop == load.Streams {
		of, start, most = "streams", float64(o.Streams), float64(openFiles()-o.Hold)
		if most < 1 {
			return nil, errFiles
		}
	}
	if start == 0 {
		start = 100
	}
	// A rate that is asked for is where to begin, and no bound of what is tried.
	bounds = slices.DeleteFunc(bounds, func(b report.Bound) bool {
		if b.Measure == "rate" && o.Rate == 0 && s.Loop != load.Streams {
			start = max(start, min(b.Value, most))
		}
		return b.Measure == "rate"
	})
	return findMax(ctx, of, start, most, func(ctx context.Context, v float64) (*report.Report, error) {
		l := o.Load
		if s.Loop == load.Streams {
			l.Streams = int(v)
		} else {
			l.Rate = v
		}
		p.begin(fmt.Sprintf("%s at %s %s", name, report.Number(v), of))
		r, err := measure(ctx, l)
		if err == nil {
			carried(r)
		}
		return r, err
	})
}

// tries runs a load until it is valid, n times at most, and returns the last run.
// An interrupt is the end of it: what was seen until then is the result, of the
// try before where there was nothing yet.
func tries(ctx context.Context, n int, measure func() (*report.Report, error)) (last *report.Report, err error) {
	for range n {
		r, err := measure()
		if err != nil && (last == nil || ctx.Err() == nil) {
			return nil, err
		}
		if err == nil {
			last = r
		}
		if last.Valid || ctx.Err() != nil {
			break
		}
	}
	return last, nil
}

// exact reports how answers are to be checked, having seen one of each kind.
func (o *options) exact(ctx context.Context, requests []load.Request) (bool, error) {
	if len(requests) == 0 {
		requests = []load.Request{{Name: "JSON", Path: chat, Body: jsonBody}}
	}
	requests = slices.Clone(requests)
	for i := range requests {
		requests[i] = requests[i].For(o.model)
	}
	exact, err := load.Probe(ctx, o.endpoint(o.url), requests)
	if err != nil {
		return false, err
	}
	if o.direct != "" {
		if _, err := load.Probe(ctx, o.endpoint(o.direct), requests); err != nil {
			return false, err
		}
	}
	if o.check == "exact" && !exact {
		return false, fmt.Errorf("--check exact: no simulated provider answers behind %s", o.url)
	}
	return exact && o.check != "form", nil
}

func (o *options) endpoint(url string) load.Endpoint {
	return load.Endpoint{URL: url, Key: o.key, CAFile: o.caFile, Insecure: o.insecure}
}

// measure runs a job.
func (o *options) measure(ctx context.Context, j load.Job, exact bool, name string, p *progress) (*report.Report, error) {
	j.Endpoint, j.Exact, j.Timeout, j.PID, j.Admin, j.Model = o.endpoint(o.url), exact, o.timeout, o.pid, o.admin, o.model
	if o.direct != "" {
		e := o.endpoint(o.direct)
		j.Direct = &e
	}
	if j.ProviderURL = o.provider; j.ProviderURL == "" {
		j.ProviderURL = o.direct
	}
	j.ProviderURL = strings.TrimSuffix(strings.TrimRight(j.ProviderURL, "/"), "/v1")
	if p.name == "" {
		p.begin(name)
	}
	j.Progress = p.show
	began := time.Now()
	res, err := load.Run(ctx, j)
	p.name = ""
	if err != nil {
		return nil, err
	}
	r := &report.Report{
		Started: began, Result: res, Loop: j.Loop, Streams: j.Streams, Hold: j.Hold, Checked: "by their form",
		Window: j.Window.Seconds(), Model: o.model, Simulate: o.Simulate,
		Environment: report.Here(o.version, o.flags()),
	}
	if exact || j.Loop == load.Cancel {
		r.Checked = "to the last byte"
	}
	switch j.Loop {
	case load.Open:
		r.TargetRate = j.Rate
		fallthrough
	case load.Closed:
		if res.Seconds > 0 {
			r.Rate = float64(res.Cost.Requests) / res.Seconds
		}
	}
	return r, nil
}

// flags is the command line without the key.
func (o *options) flags() []string {
	args := append([]string{filepath.Base(os.Args[0])}, os.Args[1:]...)
	for i := range args {
		if o.key != "" {
			args[i] = strings.ReplaceAll(args[i], o.key, "***")
		}
	}
	return args
}

var errFiles = errors.New("this process may open too few files: raise the limit (ulimit -n)")

// openFiles is how many connections this process can have.
func openFiles() int {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil {
		return 1000
	}
	return int(min(l.Cur, maxStreams)) - 100
}
