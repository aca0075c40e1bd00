package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"streamrelay/auth/redistest"
	"streamrelay/configs"
	"streamrelay/configs/porttest"
)

func probed(t *testing.T, o Options) []configs.Finding {
	t.Helper()
	c := configs.Default()
	c.Keys, c.Redis = o.Keys, o.Redis
	return ProbeRedis(t.Context(), c)
}

// aclArgs are those of a server whose user relay may do what we say it needs,
// without one word.
func aclArgs(without string) []string {
	rule := strings.NewReplacer("PASSWORD", "pw", "PREFIX", "relay:").Replace(aclRule)
	if without != "" {
		rule = strings.Replace(rule, " "+without, "", 1)
	}
	return append([]string{"--user", "relay"}, strings.Fields(rule)...)
}

func TestTheProbeSaysWhatIsWrongWithRedisAndWhatToDo(t *testing.T) {
	plain := redistest.Start(t)
	locked := redistest.Start(t, "--requirepass", "right")
	replica := redistest.Start(t, "--replicaof", "127.0.0.1 "+strconv.Itoa(plain.Port))
	mute := redistest.Start(t, "--rename-command", "CLIENT", "")
	evicting := redistest.Start(t, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru", "--appendonly", "yes")
	frozen := redistest.Start(t)
	frozen.Signal(syscall.SIGSTOP)
	nobody := redistest.Start(t)
	nobody.Kill()
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer web.Close()
	go func() {
		for {
			c, err := web.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	with := func(addr string, edit func(*configs.Redis)) Options {
		o := redisConfig(addr)
		if edit != nil {
			edit(&o.Redis)
		}
		return o
	}
	user := func(r *configs.Redis) { r.Username, r.Password = "relay", secretOf("pw") }
	for _, test := range []struct {
		name string
		o    Options
		ok   bool
		want string
	}{
		{"all well", with(plain.Addr(), nil), true, "standalone answers, 0 keys"},
		{"no replica, no file", with(redistest.Start(t).Addr(), nil), true, "set appendonly yes or add a replica"},
		{"nothing listens", with(nobody.Addr(), nil), false, "nothing listens at " + nobody.Addr()},
		{"no password", with(locked.Addr(), nil), false, "set redis.password_file"},
		{"a wrong password", with(locked.Addr(), func(r *configs.Redis) { r.Password = secretOf("wrong") }), false, "do not fit: correct them"},
		{"an unknown user", with(plain.Addr(), user), false, "redis.username (now relay)"},
		{"frozen", with(frozen.Addr(), nil), false, "it does not answer at " + frozen.Addr()},
		{"TLS to a plain port", with(plain.Addr(), func(r *configs.Redis) { r.TLS = true }), false, "or it does not speak TLS there"},
		{"not Redis", with(web.Addr().String(), nil), false, "closed the connection without a word"},
		{"a replica", with(replica.Addr(), nil), false, "it is a replica"},
		{"no tracking", with(mute.Addr(), nil), true, "relays ask for changes each 250ms"},
		{"evictions", with(evicting.Addr(), nil), true, "set maxmemory-policy noeviction"},
		{"just enough rights", with(redistest.Start(t, aclArgs("")...).Addr(), user), true, "standalone answers"},
		{"no scripts", with(redistest.Start(t, aclArgs("+evalsha")...).Addr(), user), false, "ACL SETUSER relay on ~relay:*"},
		{"no tracking right", with(redistest.Start(t, append(aclArgs(""), "-client|tracking")...).Addr(), user), true, "allow +client|tracking"},
		{"no right in a script", with(redistest.Start(t, aclArgs("+zadd")...).Addr(), user), false, "+zadd"},
		{"another prefix", with(redistest.Start(t, aclArgs("")...).Addr(), func(r *configs.Redis) { user(r); r.Prefix = "other:" }), false, "~other:*"},
	} {
		t.Run(test.name, func(t *testing.T) {
			found := probed(t, test.o)
			text := ""
			ok := len(found) > 0
			for _, f := range found {
				text += f.Detail + "\n" + f.Hint + "\n"
				ok = ok && f.OK
			}
			if ok != test.ok || !strings.Contains(text, test.want) {
				t.Errorf("ok %v, want %v with %q:\n%s", ok, test.ok, test.want, text)
			}
			for _, secret := range []string{"wrong", ">pw", "right"} {
				if strings.Contains(text, secret+"\n") || strings.Contains(text, " "+secret+" ") && secret != "wrong" && secret != "right" {
					t.Errorf("tells a password:\n%s", text)
				}
			}
		})
	}
	if found := probed(t, Options{Keys: configs.Default().Keys}); found != nil {
		t.Errorf("a keys file was probed: %v", found)
	}
}

func TestAUserWithFewRightsIsEnough(t *testing.T) {
	server := redistest.Start(t, append(aclArgs(""), "--user", "default", "off")...)
	o := redisConfig(server.Addr())
	o.Redis.Username, o.Redis.Password = "relay", secretOf("pw")
	followed(t, o)
}

func TestOverAUnixSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "relay") // a path that fits
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "redis.sock")
	redistest.Start(t, "--unixsocket", path)
	followed(t, redisConfig("unix:"+path))
}

func TestOverTLS(t *testing.T) {
	dir := t.TempDir()
	certificate(t, dir)
	port := porttest.Free(t)
	redistest.Start(t, "--tls-port", strconv.Itoa(port), "--tls-cert-file", dir+"/cert.pem", "--tls-key-file", dir+"/key.pem", "--tls-ca-cert-file", dir+"/cert.pem", "--tls-auth-clients", "no")
	o := redisConfig("127.0.0.1:" + strconv.Itoa(port))
	o.Redis.TLS = true
	found := probed(t, o)
	if len(found) != 1 || found[0].OK || !strings.Contains(found[0].Hint, "set redis.ca_file") {
		t.Errorf("%+v", found)
	}
	path := filepath.Join(dir, "relay.yaml")
	if err := os.WriteFile(path, []byte("keys: {store: redis}\nredis: {addresses: ["+o.Redis.Addresses[0]+"], tls: true}\nupstreams:\n  - {name: a, base_url: http://127.0.0.1:1/v1}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := keysCommand(t, "", "list", "--config", path); r.err == nil || !strings.Contains(r.err.Error(), "set redis.ca_file") {
		t.Errorf("a command says %v", r.err)
	}
	o.Redis.CAFile = dir + "/cert.pem"
	followed(t, o)
}

func TestAnErrorOfAFileIsNotTakenForOneOfRedis(t *testing.T) {
	_, err := os.ReadFile(t.TempDir()) // a folder
	if got := explained(&configs.Redis{Addresses: []string{"127.0.0.1:1"}}, fmt.Errorf("read keys: %w", err)); err == nil || got.Error() != "read keys: "+err.Error() {
		t.Errorf("%v", got)
	}
}

// followed goes once through a key's life.
func followed(t *testing.T, o Options) {
	t.Helper()
	k := keeperAt(t, o)
	key, _ := makeKey(t, k, grant{name: "a", limits: allLimits})
	relay := openRelay(t, o)
	if got := relay.ask(key); got != Found || !relay.Health().Tracking {
		t.Fatalf("%v, %+v", got, relay.Health())
	}
	if _, err := viewsOf(t.Context(), k, relay.Table().all(), time.Now()); err != nil {
		t.Error(err)
	}
	admitOnce(t, relay, key)
	if _, failed := relay.limiter.Calls(); failed != 0 {
		t.Errorf("%d calls of limits failed", failed)
	}
	if _, _, _, err := revokeKey(t.Context(), k, "a", time.Now()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the revoked key is refused", func() bool { return relay.ask(key) == Revoked })
}

// certificate writes a certificate of 127.0.0.1 that signs itself.
func certificate(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redis"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
