package deploytest

import (
	"debug/elf"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

func stages(t *testing.T) []instructions.Stage {
	t.Helper()
	file, err := parser.Parse(strings.NewReader(read(t, filepath.Join(root, "Dockerfile"))))
	if err != nil {
		t.Fatal(err)
	}
	if len(file.Warnings) > 0 {
		t.Errorf("Dockerfile: %v", file.Warnings)
	}
	found, _, err := instructions.Parse(file.AST, nil)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestDockerfileBuildCommandsMakeTheImagesFiles runs the build stage's commands on
// this machine, in a copy of the tree, and looks at what the last stage takes.
func TestDockerfileBuildCommandsMakeTheImagesFiles(t *testing.T) {
	needs(t, "sh", "go")
	build := stages(t)[0]
	tree, out := copyTree(t), t.TempDir()
	env := []string{"VERSION=v9.8.7", "REVISION=0123456789ab", "TARGETOS=linux", "TARGETARCH=amd64", "GOARCH=amd64", "GOFLAGS="}
	commands := 0
	for _, command := range build.Commands {
		if r, ok := command.(*instructions.RunCommand); ok {
			commands++
			run(t, tree, env, "sh", "-euc", strings.ReplaceAll(strings.Join(r.CmdLine, " "), "/out/", out+"/"))
		}
	}
	if commands < 2 {
		t.Fatalf("found %d commands in the build stage", commands)
	}
	image := stages(t)[1]
	for _, command := range image.Commands {
		c, ok := command.(*instructions.CopyCommand)
		if !ok {
			continue
		}
		if c.From != build.Name {
			t.Errorf("COPY --from=%s", c.From)
		}
		for _, source := range c.SourcePaths {
			if strings.HasPrefix(source, "/out/") {
				if _, err := os.Stat(filepath.Join(out, strings.TrimPrefix(source, "/out/"))); err != nil {
					t.Errorf("the image takes what was not built: %v", err)
				}
			}
		}
	}
	program, err := elf.Open(filepath.Join(out, "relay"))
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	for _, p := range program.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("the binary wants a loader, which the image does not have")
		}
	}
	contains(t, "relay version", run(t, tree, nil, filepath.Join(out, "relay"), "version"), "v9.8.7", "0123456789ab", "linux/amd64")
	contains(t, "the licences", read(t, filepath.Join(out, "THIRD-PARTY-LICENCES")), "valyala/fasthttp", "uPlot 1.6.32: LICENSE", "The MIT License", "the Go standard library")
	// Its health check and its command are the relay's.
	run(t, tree, nil, filepath.Join(out, "relay"), "healthcheck", "--help")
	run(t, tree, nil, filepath.Join(out, "relay"), "serve", "--help")
}

func TestDockerfileImageHoldsTheRelayAloneAndNoRoot(t *testing.T) {
	all := stages(t)
	image := all[len(all)-1]
	if image.BaseName != "scratch" {
		t.Errorf("the image begins with %s", image.BaseName)
	}
	seen := map[string]string{}
	for _, command := range image.Commands {
		switch c := command.(type) {
		case *instructions.UserCommand:
			seen["user"] = c.User
		case *instructions.EntrypointCommand:
			seen["entrypoint"] = strings.Join(c.CmdLine, " ")
		case *instructions.CmdCommand:
			seen["command"] = strings.Join(c.CmdLine, " ")
		case *instructions.HealthCheckCommand:
			seen["health"] = strings.Join(c.Health.Test, " ")
		case *instructions.CopyCommand:
			seen[c.DestPath] = strings.Join(c.SourcePaths, " ")
		case *instructions.RunCommand:
			t.Error("RUN in an image without a shell")
		}
	}
	for what, want := range map[string]string{
		"user": "65532:65532", "entrypoint": "/usr/bin/relay", "command": "serve --config /etc/relay/relay.yaml",
		"health":                             "CMD /usr/bin/relay healthcheck --address 127.0.0.1:8080",
		"/etc/ssl/certs/ca-certificates.crt": "/etc/ssl/certs/ca-certificates.crt",
	} {
		if seen[what] != want {
			t.Errorf("%s: %q, want %q", what, seen[what], want)
		}
	}
}
