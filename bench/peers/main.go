package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"streamrelay/bench/load"
	"streamrelay/bench/simulate"
)

func main() {
	if len(os.Args) > 1 {
		if role, ok := roles[os.Args[1]]; ok {
			exit(role(os.Args[2:]))
		}
	}
	exit(compare(os.Args[1:]))
}

func exit(err error) {
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// roles are what this binary is when it starts itself again.
var roles = map[string]func([]string) error{
	"as-provider": provider,
	"as-load":     generate,
	"as-goproxy":  goproxy,
}

// provider is the command simulate under another name.
func provider(args []string) error {
	cmd := simulate.Command()
	cmd.SetArgs(args)
	return cmd.ExecuteContext(context.Background())
}

// generate runs the job on standard input and writes its result to standard
// output.
func generate([]string) error {
	var job load.Job
	if err := json.NewDecoder(os.Stdin).Decode(&job); err != nil {
		return fmt.Errorf("read the job: %w", err)
	}
	load.Alone()
	res, err := load.Run(context.Background(), job)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(res)
}

// settings are the command line.
type settings struct {
	relay     string
	nginx     string
	haproxy   string
	peers     []string
	scenarios []string
	tls       []bool
	reps      int
	window    time.Duration
	streams   int
	held      int
	rate      float64
	cancels   int
	noUsage   bool
	accessLog bool
	json      bool
	keep      bool
	with      string
	command   []string // of with
}

func parse(args []string) (s settings, err error) {
	f := flag.NewFlagSet("peers", flag.ContinueOnError)
	f.StringVar(&s.relay, "relay", "bin/relay", "the relay's binary")
	f.StringVar(&s.nginx, "nginx", findServer("nginx"), "nginx's binary")
	f.StringVar(&s.haproxy, "haproxy", findServer("haproxy"), "HAProxy's binary")
	names := f.String("peers", "direct,nginx,relay", "any of direct, nginx, haproxy, relay, relay-writer, goproxy, in the order of each turn")
	list := f.String("scenarios", "paced,burst,json,rate,soak,cancel", "which to run, any of "+strings.Join(scenarioNames(), ", "))
	f.StringVar(&s.with, "with", "", "start this peer before a provider, run the command behind the flags with $URL, $KEY, $DIRECT and $PID, and stop them")
	tls := f.String("tls", "no", "TLS to the provider: no, yes or both")
	f.IntVar(&s.reps, "reps", 3, "turns; the table shows medians")
	f.DurationVar(&s.window, "window", 4*time.Second, "length of each measurement")
	f.IntVar(&s.streams, "streams", 1000, "streams of the scenario paced")
	f.IntVar(&s.held, "held", 2000, "streams of the scenario soak")
	f.Float64Var(&s.rate, "rate", 0, "requests a second, in place of the scenarios' own")
	f.IntVar(&s.cancels, "cancels", 100, "clients that leave, in each of three phases")
	f.BoolVar(&s.noUsage, "no-usage", false, "clients do not ask for usage; the relay then does so by itself")
	f.BoolVar(&s.accessLog, "access-log", true, "the relay's own, to a file; the other peers write none")
	f.BoolVar(&s.json, "json", false, "print every single result as JSON instead of the table")
	f.BoolVar(&s.keep, "keep", false, "keep the folder with configurations and logs")
	if err := f.Parse(args); err != nil {
		return s, err
	}
	if s.with != "" {
		if _, ok := peers[s.with]; !ok || f.NArg() == 0 {
			return s, fmt.Errorf("-with %s: want the name of a peer, and behind the flags a command", s.with)
		}
		s.command = f.Args()
		return s, nil
	}
	if f.NArg() > 0 || s.reps < 1 || s.reps > 100 || s.window < 100*time.Millisecond || s.window > 10*time.Minute {
		return s, errors.New("no arguments, 1 to 100 turns, windows of 100ms to 10m")
	}
	switch *tls {
	case "no":
		s.tls = []bool{false}
	case "yes":
		s.tls = []bool{true}
	case "both":
		s.tls = []bool{false, true}
	default:
		return s, fmt.Errorf("-tls %q: want no, yes or both", *tls)
	}
	s.peers, s.scenarios = strings.Split(*names, ","), strings.Split(*list, ",")
	for _, name := range s.peers {
		if _, ok := peers[name]; !ok {
			return s, fmt.Errorf("-peers: there is no %q", name)
		}
	}
	for _, name := range s.scenarios {
		if !slices.Contains(scenarioNames(), name) {
			return s, fmt.Errorf("-scenarios: there is no %q", name)
		}
	}
	return s, nil
}

// findServer looks where Debian has servers, too, which is not on every PATH.
func findServer(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	return "/usr/sbin/" + name
}

func compare(args []string) error {
	s, err := parse(args)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := raiseFiles(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "relay-peers-")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	if s.keep {
		fmt.Fprintln(os.Stderr, "folder:", dir)
	} else {
		defer os.RemoveAll(dir)
	}
	if s.with != "" {
		return with(ctx, &s, dir)
	}
	all, failed := turns(ctx, &s, func(scenario, name string, tls bool) (load.Result, error) {
		return turn(ctx, &s, dir, scenario, name, tls)
	})
	if len(all) == 0 {
		return failed
	}
	if s.json {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", " ")
		return errors.Join(failed, e.Encode(all))
	}
	fmt.Printf("%s, %d CPUs, %s, Linux %s, %d turns, windows of %s; medians, in brackets the ratio to nginx\n",
		time.Now().Format("2006-01-02 15:04"), runtime.NumCPU(), runtime.Version(), kernel(), s.reps, s.window)
	report(os.Stdout, &s, all)
	return failed
}

// turns runs every turn of every peer. Where one fails, or ctx ends, it returns
// those that have ended, too.
func turns(ctx context.Context, s *settings, turn func(scenario, name string, tls bool) (load.Result, error)) (all []outcome, err error) {
	for _, sc := range s.scenarios {
		for _, tls := range s.tls {
			for rep := range s.reps {
				for _, name := range s.peers {
					o := outcome{Scenario: sc, Peer: name, TLS: tls, Turn: rep}
					o.Result, err = turn(sc, name, tls)
					if ctx.Err() != nil {
						return all, ctx.Err()
					}
					if err != nil {
						return all, fmt.Errorf("%s through %s: %w", sc, name, err)
					}
					all = append(all, o)
					fmt.Fprintln(os.Stderr, o.line())
				}
			}
		}
	}
	return all, nil
}

// turn starts a provider and a peer, runs one scenario through them and ends
// both.
func turn(ctx context.Context, s *settings, dir, scenario, name string, tls bool) (load.Result, error) {
	job, err := s.job(scenario)
	if err != nil {
		return load.Result{}, err
	}
	// Far beyond any scenario's plan.
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute+2*s.window)
	defer cancel()
	// A folder of its own: no key, log or temporary file of another turn.
	dir, err = os.MkdirTemp(dir, scenario+"-"+name+"-")
	if err != nil {
		return load.Result{}, fmt.Errorf("make a folder: %w", err)
	}
	e := &env{settings: s, dir: dir, tls: tls}
	defer e.stop()
	if err := e.startProvider(ctx); err != nil {
		return load.Result{}, err
	}
	p, err := peers[name](ctx, e)
	if err != nil {
		return load.Result{}, err
	}
	job.Endpoint, job.PID, job.Provider = load.Endpoint{URL: "http://" + p.addr, Key: clientKey}, p.pid, e.provider.pid()
	if p.ca != "" {
		job.Endpoint.URL, job.Endpoint.CAFile = "https://"+p.addr, p.ca
	}
	job.ProviderURL = e.providerURL()
	job.Memory = job.Memory && p.pid != 0
	if p.asksUsage {
		takesUsageOut(&job)
	}
	return e.load(ctx, job)
}

// raiseFiles lifts the limit of open files to what the system allows; children
// inherit it.
func raiseFiles() error {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	l.Cur = l.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("raise the limit of open files: %w", err)
	}
	return nil
}

func kernel() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "?"
	}
	return unix.ByteSliceToString(u.Release[:])
}
