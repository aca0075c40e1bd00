package deploytest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

// loadCompose loads a compose file of the project's folder as docker compose does:
// schema, references, interpolation.
func loadCompose(text string) (*types.Project, error) {
	dir, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	return loader.LoadWithContext(context.Background(), types.ConfigDetails{
		WorkingDir:  dir,
		ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(dir, "docker-compose.yml"), Content: []byte(text)}},
		Environment: types.Mapping{},
	}, func(o *loader.Options) { o.SetProjectName("stream-relay", false) })
}

func TestComposeFileLoadsAndIsHardened(t *testing.T) {
	p, err := loadCompose(read(t, filepath.Join(root, "docker-compose.yml")))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"relay", "redis", "clickhouse", "victoriametrics", "grafana"} {
		s, ok := p.Services[name]
		if !ok {
			t.Fatalf("no service %s", name)
		}
		if s.HealthCheck == nil || s.HealthCheck.Disable || len(s.HealthCheck.Test) < 2 {
			t.Errorf("%s has no health check", name)
		}
	}
	for name, s := range p.Services {
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") || s.Privileged {
			t.Errorf("%s is not hardened", name)
		}
		if _, tag, _ := strings.Cut(s.Image, ":"); tag == "" || tag == "latest" {
			t.Errorf("%s: image %q is not pinned", name, s.Image)
		}
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s publishes %s on %q, not on loopback alone", name, port.Published, port.HostIP)
			}
		}
		for _, v := range s.Volumes {
			if v.Type != types.VolumeTypeBind || strings.Contains(v.Source, "/secrets/") {
				continue // TestComposeSetup makes those
			}
			if _, err := os.Stat(v.Source); err != nil {
				t.Errorf("%s mounts what is not there: %v", name, err)
			}
		}
		for variable, value := range s.Environment {
			if value != nil && regexp.MustCompile(`(?i)(password|token|key)$`).MatchString(variable) {
				t.Errorf("%s has the secret %s in its environment, not in a file", name, variable)
			}
		}
	}
	relay := p.Services["relay"]
	if relay.StopGracePeriod == nil || time.Duration(*relay.StopGracePeriod) <= 10*time.Minute {
		t.Errorf("relay is given %v to stop: less than drain_timeout", relay.StopGracePeriod)
	}
	for _, store := range []string{"redis", "clickhouse", "victoriametrics"} {
		if len(p.Services[store].Ports) > 0 || !p.Networks["inside"].Internal {
			t.Errorf("%s can be reached from outside", store)
		}
	}
}

// TestComposeCheckRefusesMistakes: a loader that took anything would prove nothing.
func TestComposeCheckRefusesMistakes(t *testing.T) {
	good := read(t, filepath.Join(root, "docker-compose.yml"))
	for name, change := range map[string][2]string{
		"condition": {"condition: service_healthy", "condition: service_helthy"},
		"key":       {"stop_grace_period:", "stop_grace_perid:"},
		"secret":    {"secrets: [admin_token]", "secrets: [admin_tokn]"},
		"volume":    {"- redis:/data", "- rdis:/data"},
		"network":   {"networks: [inside]", "networks: [insde]"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := strings.Replace(good, change[0], change[1], 1)
			if bad == good {
				t.Fatalf("docker-compose.yml does not have %q", change[0])
			}
			if _, err := loadCompose(bad); err == nil {
				t.Error("accepted")
			}
		})
	}
}

// TestComposeSetup: setup.sh makes every file that the compose file mounts, keeps
// them when it is run again, gives Redis and ClickHouse digests alone, and the
// relay's configuration is good with them.
func TestComposeSetup(t *testing.T) {
	needs(t, "sh", "sha256sum", "od")
	dir := t.TempDir()
	script := filepath.Join(dir, "configs", "compose", "setup.sh")
	write(t, script, read(t, filepath.Join(root, "configs", "compose", "setup.sh")))

	if out, err := output(dir, []string{"PROVIDER_KEY="}, "sh", script); err == nil || !strings.Contains(out, "set PROVIDER_KEY") {
		t.Errorf("without the provider's key: %v, %s", err, out)
	}
	secrets := filepath.Join(dir, "secrets")
	run(t, dir, []string{"PROVIDER_KEY=sk-planted"}, "sh", script)
	before := map[string]string{}
	p, err := loadCompose(read(t, filepath.Join(root, "docker-compose.yml")))
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range p.Secrets {
		before[name] = read(t, filepath.Join(secrets, filepath.Base(s.File)))
	}
	for _, s := range p.Services {
		for _, v := range s.Volumes {
			if name := filepath.Base(v.Source); v.Type == types.VolumeTypeBind && strings.Contains(v.Source, "/secrets/") {
				before[name] = read(t, filepath.Join(secrets, name))
			}
		}
	}
	run(t, dir, nil, "sh", script) // asks for nothing
	for name, was := range before {
		if now := read(t, filepath.Join(secrets, name)); now != was || now == "" {
			t.Errorf("%s: changed by a second run, or empty", name)
		}
		if strings.HasPrefix(name, "redis-users") || strings.HasPrefix(name, "clickhouse-users") {
			for secret, value := range before {
				if secret != name && strings.Contains(was, value) {
					t.Errorf("%s holds %s itself", name, secret)
				}
			}
		}
	}
	if info, err := os.Stat(secrets); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("secrets/: %v, %v; want it closed to others", info.Mode(), err)
	}
	checkConfig(t, filepath.Join(root, "configs", "compose", "relay.yaml"), []string{"PROVIDER_URL=https://api.example.com/v1"}, "/run/secrets/", secrets+"/")
	t.Run("Redis", func(t *testing.T) { redisUsers(t, secrets) })
}

// redisUsers runs a Redis with the users that setup.sh wrote: the relay's may do
// what the relay does, and one without a password may only ask whether it lives.
func redisUsers(t *testing.T, secrets string) {
	needs(t, "redis-server", "redis-cli")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	ln.Close()
	server := exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir(), "--aclfile", filepath.Join(secrets, "redis-users.acl"))
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	ping := func() string {
		out, _ := output("", nil, "redis-cli", "-p", port, "PING")
		return strings.TrimSpace(out)
	}
	for range 100 {
		if ping() == "PONG" {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if got := ping(); got != "PONG" {
		t.Fatalf("the health check's PING: %s", got)
	}
	if out, _ := output("", nil, "redis-cli", "-p", port, "KEYS", "*"); !strings.Contains(out, "NOPERM") {
		t.Errorf("KEYS without a password: %s", out)
	}
	config := filepath.Join(t.TempDir(), "relay.yaml")
	write(t, config, fmt.Sprintf(`listen: 127.0.0.1:0
keys: {store: redis, state_file: ""}
redis: {addresses: ["127.0.0.1:%s"], username: relay, password_file: %q}
upstreams: [{name: none, base_url: "http://127.0.0.1:1/v1", dialect: openai}]
`, port, filepath.Join(secrets, "redis_password")))
	dir := t.TempDir()
	run(t, dir, nil, binary, "keys", "create", "--config", config, "--name", "first")
	contains(t, "the list of keys", run(t, dir, nil, binary, "keys", "list", "--config", config), "first")
	out, _ := output(dir, nil, binary, "check", "--online", "--config", config) // the upstream is not there
	if !strings.Contains(out, "redis") || strings.Contains(out, "NOPERM") || strings.Contains(out, "lacks") {
		t.Errorf("relay check --online: %s", out)
	}
}
