package auth

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"streamrelay/auth/limits"
	"streamrelay/auth/redistest"
	"streamrelay/configs"
)

// underTraffic has known keys used by two goroutines all the time, while act
// changes the store: each request must be let in.
func underTraffic(t *testing.T, r *relayOf, keys []string, act func()) {
	t.Helper()
	var all sync.WaitGroup
	var stop atomic.Bool
	var asked, refused atomic.Int64
	for range 2 {
		all.Go(func() {
			for i := 0; !stop.Load(); i++ {
				rec, status := r.Table().LookupFrom([]byte(keys[i%len(keys)]), clientAddr, time.Now().Unix())
				asked.Add(1)
				if status != Found {
					refused.Add(1)
					continue
				}
				var g limits.Grant
				tenant, _ := rec.Tenant(nil)
				if _, ok := r.Admit(&g, rec, tenant, &limits.Ask{}); !ok {
					refused.Add(1)
				}
				g.Settle(&limits.Outcome{Sent: true})
				time.Sleep(100 * time.Microsecond)
			}
		})
	}
	defer func() {
		stop.Store(true)
		all.Wait()
		if asked.Load() == 0 || refused.Load() > 0 {
			t.Errorf("%d of %d requests with known keys were refused", refused.Load(), asked.Load())
		}
	}()
	act()
}

// reloaded puts o in force.
func reloaded(t *testing.T, r *relayOf, o Options) {
	t.Helper()
	c, err := r.Prepare(o)
	if err != nil {
		t.Fatal(err)
	}
	c.Apply()
}

// moves waits until r is in step over another connection, for the n-th time.
func moves(t *testing.T, r *relayOf, n int) {
	t.Helper()
	eventually(t, "the relay has moved", func() bool {
		return strings.Count(r.log.String(), "Redis of the new configuration") == n && r.Health().Phase == "ready"
	})
}

func TestAReloadChangesPrices(t *testing.T) {
	for name, o := range stores(t) {
		t.Run(name, func(t *testing.T) {
			relay := openRelay(t, o)
			key, _ := makeKey(t, relay.keeper(), grant{limits: limits.Limits{BudgetDay: limits.Dollar}})
			eventually(t, "the key is there", func() bool { return relay.ask(key) == Found })
			ask := limits.Ask{BodyBytes: 10, Model: []byte("m")}
			out := limits.Outcome{Sent: true, Known: true, Input: 900_000, Model: []byte("m")}
			if _, ok := request(t, relay, key, ask, out); !ok || relay.Health().Unpriced != 1 {
				t.Fatalf("without a price: %v, %d", ok, relay.Health().Unpriced)
			}
			o.Prices = map[string]configs.Price{"m": {Input: 1}}
			reloaded(t, relay, o)
			for range 2 { // 0.90 each, of 1.00
				if r, ok := request(t, relay, key, ask, out); !ok {
					t.Fatalf("%+v", r)
				}
			}
			if r, ok := request(t, relay, key, ask, out); ok || !r.Quota {
				t.Errorf("after 1.80 of 1.00 dollar: %v %+v", ok, r)
			}
		})
	}
}

func TestAReloadRefusesByNameWhatOnlyARestartChanges(t *testing.T) {
	both := stores(t)
	file, redis := openRelay(t, both["file"]), openRelay(t, both["redis"])
	for want, try := range map[string]struct {
		relay *relayOf
		o     Options
		edit  func(*Options)
	}{
		"a change of keys.store":               {file, both["file"], func(o *Options) { o.Keys.Store = "redis" }},
		"a change of keys.pepper_file":         {file, both["file"], func(o *Options) { o.Keys.Pepper = secretOf("x") }},
		"a change of redis.prefix":             {redis, both["redis"], func(o *Options) { o.Redis.Prefix = "other:" }},
		"keys.pepper_file, redis.prefix":       {redis, both["redis"], func(o *Options) { o.Redis.Prefix, o.Keys.Pepper = "other:", secretOf("x") }},
		"keys.file: open ":                     {file, both["file"], func(o *Options) { o.Keys.File += ".none" }},
		"nothing listens at 127.0.0.1:1":       {redis, both["redis"], func(o *Options) { o.Redis.Addresses = []string{"127.0.0.1:1"} }},
		"does not speak TLS there":             {redis, both["redis"], func(o *Options) { o.Redis.TLS = true }},
		"redis.password or password_file do n": {redis, both["redis"], func(o *Options) { o.Redis.Username, o.Redis.Password = "u", secretOf("wrong-password") }},
	} {
		o := try.o
		try.edit(&o)
		o.Prices = map[string]configs.Price{"m": {Input: 1}}
		c, err := try.relay.Prepare(o)
		if err == nil || c != nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "wrong-password") {
			t.Errorf("%v; want %q", err, want)
		}
		if h := try.relay.Health(); h.Phase != "ready" {
			t.Errorf("%s: %+v", want, h)
		}
	}
	c, err := redis.Prepare(func() Options { o := both["redis"]; o.Redis.Database = 1; return o }())
	if err != nil {
		t.Fatal(err)
	}
	c.Discard() // goleak sees a connection that stays
}

func TestAReloadChangesThePasswordOfRedisUnderTraffic(t *testing.T) {
	server := redistest.Start(t)
	server.Do("ACL", "SETUSER", "relay", "on", ">first", "~*", "+@all", "&*")
	o := redisConfig(server.Addr())
	o.Redis.Username, o.Redis.Password = "relay", secretOf("first")
	k := keeperAt(t, o)
	key, _ := makeKey(t, k, grant{limits: limits.Limits{Requests: 1_000_000, Concurrent: 100}})
	calls := make(chan string, 1000)
	o.RedisCall = func(of string, took time.Duration) {
		select {
		case calls <- of:
		default:
		}
	}
	relay := openRelay(t, o)
	underTraffic(t, relay, []string{key}, func() {
		for i, password := range []string{"second", "third"} {
			server.Do("ACL", "SETUSER", "relay", ">"+password)
			o.Redis.Password = secretOf(password)
			reloaded(t, relay, o)
			moves(t, relay, i+1)
		}
		late, _ := makeKey(t, keeperAt(t, o), grant{name: "late"})
		if got := relay.ask(late); got != Found {
			t.Errorf("a key of after: %v", got)
		}
		if _, _, _, err := revokeKey(t.Context(), relay.keeper(), "late", time.Now()); err != nil {
			t.Error(err)
		}
		eventually(t, "it is refused", func() bool { return relay.ask(late) == Revoked })
	})
	nobody := relay.Health().Lookups.Miss
	relay.ask("sk-nobody")
	if h := relay.Health(); h.CallErrors != 0 || h.Lookups.Stale != 0 || h.Lookups.Hit == 0 || h.Lookups.Miss != nobody+1 {
		t.Errorf("%+v", h)
	}
	kinds := map[string]int{}
	for len(calls) > 0 {
		kinds[<-calls]++
	}
	if len(kinds) != 3 || kinds[CallLookup] == 0 || kinds[CallLimits] == 0 || kinds[CallFollow] == 0 {
		t.Errorf("calls: %v", kinds)
	}
}

func TestAReloadMovesToAnotherRedisUnderTraffic(t *testing.T) {
	from, to := redistest.Start(t), redistest.Start(t)
	o := redisConfig(from.Addr())
	o.Prices = map[string]configs.Price{"m": {Input: 1}}
	k := keeperAt(t, o)
	free, record := makeKey(t, k, grant{name: "free", limits: limits.Limits{Requests: 1_000_000}})
	poor, _ := makeKey(t, k, grant{name: "poor", limits: limits.Limits{BudgetDay: limits.Dollar}})
	relay, other := openRelay(t, o), openRelay(t, o)
	ask := limits.Ask{Model: []byte("m")}
	spend := func(r *relayOf, tokens int64) bool {
		_, ok := request(t, r, poor, ask, limits.Outcome{Sent: true, Known: true, Input: tokens, Model: []byte("m")})
		return ok
	}
	spend(other, 700_000)
	other.Close()
	spend(relay, 1)
	eventually(t, "this relay knows what the other one spent", func() bool {
		_, spent, _ := relay.spent(t, poor)
		return spent > 7*limits.Dollar/10
	})
	o.Redis.Addresses = []string{to.Addr()}
	if _, err := relay.Prepare(o); err == nil || !strings.Contains(err.Error(), "copy them first") {
		t.Fatalf("a Redis without the keys: %v", err)
	}
	if _, err := importExport(t.Context(), keeperAt(t, o), strings.NewReader(exported(t, k)), false); err != nil {
		t.Fatal(err)
	}
	underTraffic(t, relay, []string{free}, func() {
		reloaded(t, relay, o)
		moves(t, relay, 1)
		from.Kill()
		late, _ := makeKey(t, keeperAt(t, o), grant{name: "late"})
		if got := relay.ask(late); got != Found {
			t.Errorf("a key of after: %v", got)
		}
		if _, _, _, err := revokeKey(t.Context(), relay.keeper(), "late", time.Now()); err != nil {
			t.Error(err)
		}
		eventually(t, "it is refused", func() bool { return relay.ask(late) == Revoked })
	})
	if h := relay.Health(); h.Phase != "ready" || h.Lookups.Stale != 0 {
		t.Errorf("%+v", h)
	}
	if strings.Contains(relay.log.String(), "Redis is away") || strings.Contains(relay.log.String(), "without the keys") {
		t.Error("the move was taken for an outage")
	}
	// 0.70 by the other, which this Redis never heard of, and 0.20.
	if !spend(relay, 200_000) {
		t.Error("refused within the budget")
	}
	time.Sleep(300 * time.Millisecond) // until Redis has answered once more
	spend(relay, 200_000)
	if spend(relay, 1) {
		t.Error("what was spent before the move is forgotten")
	}
	r, _ := relay.Table().lookup([]byte(free), time.Now().Unix())
	if r == nil || r.ID != record.ID {
		t.Errorf("%+v", r)
	}
}

// spent is the day of a key.
func (r *relayOf) spent(t *testing.T, key string) (period int64, spent, budget limits.Money) {
	t.Helper()
	rec, _ := r.Table().lookup([]byte(key), time.Now().Unix())
	for _, s := range r.limiter.Share(nil, false, false) {
		if s.Scope == keyScope(rec.ID) {
			return s.Day, s.DaySpent, rec.Limits.BudgetDay
		}
	}
	return 0, 0, 0
}

func TestAReloadMovesToAnAdoptedRedis(t *testing.T) {
	from, to := redistest.Start(t), redistest.Start(t)
	o := redisConfig(from.Addr())
	old, _ := makeKey(t, keeperAt(t, o), grant{name: "old"})
	relay := openRelay(t, o)
	o.Redis.Addresses = []string{to.Addr()}
	fresh, _ := makeKey(t, keeperAt(t, o), grant{name: "fresh"})
	if err := keeperAt(t, o).adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	reloaded(t, relay, o)
	moves(t, relay, 1)
	if a, b := relay.ask(old), relay.ask(fresh); a != Unknown || b != Found {
		t.Errorf("old %v, fresh %v", a, b)
	}
}

func TestAReloadLeavesAnOutageWithAnotherRedis(t *testing.T) {
	from, to := redistest.Start(t), redistest.Start(t)
	o := redisConfig(from.Addr())
	key, _ := makeKey(t, keeperAt(t, o), grant{})
	to.Do("REPLICAOF", "127.0.0.1", from.Addr()[len("127.0.0.1:"):])
	eventually(t, "the replica has the key", func() bool {
		n, err := to.Do("HLEN", namesFor("relay:").ids).AsInt64()
		return err == nil && n == 1
	})
	relay := openRelay(t, o)
	from.Kill()
	eventually(t, "Redis is missed", func() bool { return relay.Health().Phase == "away" })
	// What did not change is not asked for; other settings can be changed.
	o.Redis.StaleMax = 10 * time.Minute
	reloaded(t, relay, o)
	if left := relay.Health().Left; left > 11*time.Minute || left < 9*time.Minute {
		t.Errorf("stale_max is 10m, and known keys go on for %v", left)
	}
	if got := relay.ask(key); got != Found || relay.Health().Lookups.Stale != 1 {
		t.Errorf("%v %+v", got, relay.Health().Lookups)
	}
	o.Redis.Addresses = []string{to.Addr()}
	if _, err := relay.Prepare(o); err == nil || !strings.Contains(err.Error(), "it is a replica") {
		t.Errorf("a replica: %v", err)
	}
	to.Do("REPLICAOF", "NO", "ONE")
	reloaded(t, relay, o)
	eventually(t, "the relay is in step again", func() bool { return relay.Health().Phase == "ready" })
	if got := relay.ask(key); got != Found {
		t.Error(got)
	}
}

func TestAReloadFollowsAnotherKeysFileUnderTraffic(t *testing.T) {
	o := stores(t)["file"]
	dir := filepath.Dir(o.Keys.File)
	k := &fileKeeper{path: o.Keys.File}
	both, _ := makeKey(t, k, grant{name: "both", limits: limits.Limits{Requests: 1_000_000}})
	left, _ := makeKey(t, k, grant{name: "left"})
	relay := openRelay(t, o)
	o.Keys.File = filepath.Join(dir, "other.yaml")
	write(t, o.Keys.File, "keys: [x]\n")
	if _, err := relay.Prepare(o); err == nil || !strings.Contains(err.Error(), "other.yaml:1") {
		t.Fatalf("a broken file: %v", err)
	}
	write(t, o.Keys.File, "")
	if _, err := relay.Prepare(o); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Fatalf("an empty file: %v", err)
	}
	other := &fileKeeper{path: o.Keys.File}
	if _, err := importKeys(t.Context(), other, []string{both}, grant{limits: limits.Limits{Requests: 1_000_000}}, time.Now()); err != nil {
		t.Fatal(err)
	}
	underTraffic(t, relay, []string{both}, func() {
		reloaded(t, relay, o)
		if got := relay.ask(left); got != Unknown {
			t.Errorf("a key of the file of before: %v", got)
		}
		api := serveAPI(t, relay)
		if status, answer := api.do("POST", "/api/keys", `{"name":"late"}`); status != http.StatusCreated {
			t.Fatalf("%d %s", status, answer)
		}
		if _, err := other.get(t.Context(), "late"); err != nil {
			t.Errorf("a key made by the API is not in the file of now: %v", err)
		}
		eventually(t, "the relay follows the file of now", func() bool { return relay.Table().Len() == 2 })
	})
}

func TestAReloadChangesTheTokenOfTheAPI(t *testing.T) {
	o := stores(t)["file"]
	o.Keys.APIToken = configs.Secret{}
	relay := openRelay(t, o)
	handler := relay.API()
	status := func() int {
		req := httptest.NewRequest(http.MethodGet, "/api/keys", nil)
		req.Header.Set("Authorization", "Bearer api-token")
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, req)
		return w.Code
	}
	for _, step := range []struct {
		token string
		want  int
	}{{"", 404}, {"api-token", 200}, {"another-token", 401}, {"", 404}} {
		o.Keys.APIToken = secretOf(step.token)
		reloaded(t, relay, o)
		if got := status(); got != step.want {
			t.Errorf("with the token %q: %d, want %d", step.token, got, step.want)
		}
	}
}
