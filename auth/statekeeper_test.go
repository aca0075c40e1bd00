package auth

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"streamrelay/auth/limits"
	"streamrelay/auth/redistest"
	"streamrelay/configs"
)

func optionsIn(dir string) Options {
	o := Options{Keys: configs.Default().Keys, Redis: configs.Default().Redis, Prices: map[string]configs.Price{"m": {Input: 1}}}
	o.Keys.File, o.Keys.StateFile = filepath.Join(dir, "keys.yaml"), filepath.Join(dir, "run", "keys.state")
	return o
}

// relayRole is a relay's store in a process of its own. It answers "spend
// TOKENS KEY", which is a millionth of a dollar each, with ok or refused, and
// writes or reads the state after each, as the ticker does. It closes the store
// at the end of its input.
func relayRole(dir string) {
	s, err := Open(optionsIn(dir))
	if err != nil {
		fmt.Println(err)
		return
	}
	state := &stateKeeper{Store: s}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var tokens int64
		var key string
		if _, err := fmt.Sscanf(in.Text(), "spend %d %s", &tokens, &key); err != nil {
			fmt.Println(err)
			continue
		}
		r, status := s.Table().lookup([]byte(key), time.Now().Unix())
		if status != Found {
			fmt.Println(status)
			continue
		}
		var g limits.Grant
		if refusal, ok := s.Admit(&g, r, []byte("acme"), &limits.Ask{Model: []byte("m")}); !ok {
			fmt.Println("refused", refusal.Kind)
			state.look()
			continue
		}
		g.Settle(&limits.Outcome{Sent: true, Known: true, Input: tokens, Model: []byte("m")})
		s.limiter.Used()
		state.write()
		fmt.Println("ok")
	}
	s.Close()
}

type relayProcess struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func startRelayProcess(t *testing.T, dir string) *relayProcess {
	t.Helper()
	p := &relayProcess{t: t, cmd: process(t, "relay", dir)}
	p.cmd.Stderr = os.Stderr
	p.in, _ = p.cmd.StdinPipe()
	out, _ := p.cmd.StdoutPipe()
	p.out = bufio.NewScanner(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *relayProcess) spend(tokens int64, key string) string {
	fmt.Fprintf(p.in, "spend %d %s\n", tokens, key)
	if !p.out.Scan() {
		p.t.Error("the process has ended")
	}
	return p.out.Text()
}

func (p *relayProcess) close() {
	p.t.Helper()
	p.in.Close()
	if err := p.cmd.Wait(); err != nil {
		p.t.Error(err)
	}
}

// spentIn is what the file says of a key, in millionths of a dollar.
func spentIn(t *testing.T, dir string, r *Record) limits.Money {
	t.Helper()
	used, err := (&fileKeeper{state: optionsIn(dir).Keys.StateFile}).usage(t.Context(), []string{keyScope(r.ID)}, []limits.Limits{r.Limits})
	if err != nil || used[0].Day != used[0].Month {
		t.Errorf("%v %+v", err, used)
	}
	return used[0].Day * 1_000_000 / limits.Dollar
}

func TestARelayThatTakesOverAndTheOneThatLeavesLoseNothingSpent(t *testing.T) {
	dir := t.TempDir()
	k := &fileKeeper{path: optionsIn(dir).Keys.File}
	key, r := makeKey(t, k, grant{limits: limits.Limits{BudgetDay: limits.Dollar, BudgetMonth: limits.Dollar}})
	blue := startRelayProcess(t, dir)
	spend := func(p *relayProcess, tokens int64, want string) {
		t.Helper()
		if got := p.spend(tokens, key); got != want {
			t.Errorf("spend %d: %s, want %s", tokens, got, want)
		}
	}
	spend(blue, 300_000, "ok")
	green := startRelayProcess(t, dir)
	spend(green, 200_000, "ok")
	spend(blue, 100_000, "ok") // it drains
	spend(green, 50_000, "ok")
	blue.close()
	if got := spentIn(t, dir, r); got != 650_000 {
		t.Errorf("spent %d when the old one has left, want 650000", got)
	}
	spend(green, 350_000, "ok") // it has not looked since, and need not have
	spend(green, 1, "refused budget_day")
	// One that is killed has told what it spent until then.
	_ = green.cmd.Process.Kill()
	_ = green.cmd.Wait()
	third := startRelayProcess(t, dir)
	spend(third, 1, "refused budget_day")
	third.close()
	if got := spentIn(t, dir, r); got != 1_000_000 {
		t.Errorf("spent %d, want 1000000", got)
	}
}

func TestRelaysThatShareAStateFileAddUp(t *testing.T) {
	dir := t.TempDir()
	k := &fileKeeper{path: optionsIn(dir).Keys.File}
	key, r := makeKey(t, k, grant{limits: limits.Limits{BudgetDay: 100 * limits.Dollar, BudgetMonth: 100 * limits.Dollar, Requests: 1000}})
	const relays, each = 3, 30
	done := make(chan struct{})
	for i := range relays {
		go func() {
			defer func() { done <- struct{}{} }()
			// One of them comes and goes.
			p := startRelayProcess(t, dir)
			for n := range each {
				if got := p.spend(1000, key); got != "ok" {
					t.Errorf("%s", got)
				}
				if i == 0 && n%10 == 9 && n < each-1 {
					p.close()
					p = startRelayProcess(t, dir)
				}
			}
			p.close()
		}()
	}
	for range relays {
		<-done
	}
	if got := spentIn(t, dir, r); got != relays*each*1000 {
		t.Errorf("spent %d, want %d", got, relays*each*1000)
	}
	st, err := readState(optionsIn(dir).Keys.StateFile)
	if err != nil || len(st.Spent) != 1 || st.Spent[0].Instance != "" {
		t.Errorf("%v; entries of relays that have ended: %+v", err, st)
	}
}

func TestABrokenStateFileForgetsNothingThatIsKnown(t *testing.T) {
	dir := t.TempDir()
	o := optionsIn(dir)
	key, r := makeKey(t, &fileKeeper{path: o.Keys.File}, grant{limits: limits.Limits{BudgetDay: limits.Dollar}})
	first := startRelayProcess(t, dir)
	first.spend(300_000, key)
	first.close()
	second := startRelayProcess(t, dir)
	second.spend(100_000, key)
	for i, broken := range []string{"", "{", strings.Repeat("x", 1000)} {
		write(t, o.Keys.StateFile, broken)
		if i == 0 {
			os.Remove(o.Keys.StateFile)
		}
		second.spend(100_000, key)
	}
	second.close()
	if got := spentIn(t, dir, r); got != 700_000 {
		t.Errorf("spent %d, want 700000", got)
	}
}

func TestListShowsRequestsAndTokensOfAKeysFile(t *testing.T) {
	o := optionsIn(t.TempDir())
	relay := openRelay(t, o)
	lim := limits.Limits{Requests: 60, Tokens: 6000, Concurrent: 5}
	key, r := makeKey(t, relay.keeper(), grant{limits: lim})
	eventually(t, "the key is there", func() bool { return relay.ask(key) == Found })
	rec, _ := relay.Table().lookup([]byte(key), 0)
	var g limits.Grant
	for range 10 {
		var done limits.Grant
		relay.Admit(&done, rec, nil, &limits.Ask{})
		done.Settle(&limits.Outcome{Sent: true, Known: true, Input: 100, Output: 100})
	}
	if _, ok := relay.Admit(&g, rec, nil, &limits.Ask{MaxTokens: 10}); !ok {
		t.Fatal("refused")
	}
	(&stateKeeper{Store: relay.Store}).write()
	used, err := relay.keeper().usage(t.Context(), []string{keyScope(r.ID)}, []limits.Limits{lim})
	if u := used[0]; err != nil || u.Requests < 9 || u.Requests > 11 || u.Tokens < 1800 || u.Tokens > 2100 || u.Concurrent != 1 || u.Day != 0 {
		t.Errorf("%v: %+v", err, used)
	}
	g.Settle(&limits.Outcome{})
}

func TestARelayThatLostRedisLeavesTheNewerStateOfAnother(t *testing.T) {
	server := redistest.Start(t)
	hole := newBlackhole(t, server.Addr())
	near, far := redisConfig(server.Addr()), redisConfig(hole.addr())
	near.Keys.StateFile = filepath.Join(t.TempDir(), "keys.state")
	far.Keys.StateFile = near.Keys.StateFile
	k := keeperAt(t, near)
	makeKey(t, k, grant{name: "early"})
	leaving, staying := openRelay(t, far), openRelay(t, near)
	hole.hole.Store(true)
	eventually(t, "one of them misses Redis", func() bool { return leaving.Health().Phase == "away" })
	late, _ := makeKey(t, k, grant{name: "late"})
	eventually(t, "the other one follows", func() bool { return staying.ask(late) == Found && staying.Table().Len() == 2 })
	(&stateKeeper{Store: staying.Store}).write()
	leaving.Close()
	st, err := readState(near.Keys.StateFile)
	if err != nil || len(st.Records) != 2 {
		t.Errorf("%v: %d keys, want the 2 of the relay that hears Redis", err, len(st.Records))
	}
}

func TestARelayThatStartsInAnOutageGrantsItsShare(t *testing.T) {
	server := redistest.Start(t)
	o := redisConfig(server.Addr())
	key, _ := makeKey(t, keeperAt(t, o), grant{name: "k", limits: limits.Limits{Requests: 60}})
	for range 3 {
		openRelay(t, o)
	}
	o.Keys.StateFile = filepath.Join(t.TempDir(), "keys.state")
	first := openRelay(t, o)
	eventually(t, "four share", func() bool { return first.Health().Relays == 4 })
	server.Kill()
	eventually(t, "away", func() bool { return first.Health().Phase == "away" })
	first.Close()
	second := openRelay(t, o)
	if n := second.Health().Relays; n != 4 {
		t.Errorf("one of %d relays", n)
	}
	r, status := second.Table().lookup([]byte(key), time.Now().Unix())
	if status != Found {
		t.Fatal(status)
	}
	passed := 0
	for range 60 {
		var g limits.Grant
		if _, ok := second.Admit(&g, r, nil, &limits.Ask{}); ok {
			passed++
			g.Settle(&limits.Outcome{Sent: true})
		}
	}
	if passed < 15 || passed > 30 { // and what came back meanwhile
		t.Errorf("%d requests passed of a share of 15", passed)
	}
	second.Close()
	// A state of before has no number.
	st, err := readState(o.Keys.StateFile)
	if err != nil || st.Relays != 4 {
		t.Fatal(err, st)
	}
	st.Relays = 0
	if err := writeState(o.Keys.StateFile, st); err != nil {
		t.Fatal(err)
	}
	if third := openRelay(t, o); third.Health().Relays != 1 || third.ask(key) != Found {
		t.Errorf("%+v", third.Health())
	}
}
