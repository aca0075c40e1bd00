# Stream Relay. `make` alone lists the targets.
SHELL := /bin/bash
GO ?= go
# One way to compile for everything but the race detector, so that nothing is compiled twice.
export CGO_ENABLED := 0
export GOFLAGS := $(filter-out -trimpath,$(GOFLAGS)) -trimpath
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
REVISION ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.revision=$(REVISION)
FUZZTIME ?= 20s
BENCHTIME ?= 10s
DESTDIR ?=
PREFIX ?= /usr
BINARY ?= bin/relay
LICENCES ?=
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0
CYCLONEDX := github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
NFPM := github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.0

.DEFAULT_GOAL := help
.PHONY: help build run test race soak fuzz microbench dashboards bench pgo bench-nginx bench-haproxy bench-vegeta bench-k6 lint cover install uninstall release rehearse deploytest vulncheck servers clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The profile that the compiler optimises by; off: none, which builds faster.
PGO ?= bench/default.pgo

build: ## build bin/relay: static, stamped with the version (PGO=off: sooner, and slower)
	$(GO) build -pgo='$(PGO)' -ldflags '$(LDFLAGS)' -o bin/relay .

run: build ## stream a chat completion through the relay, then keep serving
	./bin/relay demo

# Packages at a time, for most of a test is waiting; and the longest first.
AT_ONCE ?= $$((2*$$(getconf _NPROCESSORS_ONLN)))
PACKAGES := ./proxy/blackbox ./proxy/process ./telemetry/requestlog ./...

test: build servers ## run every test that this machine can run
	@. .ci/servers && $(GO) test -p $(AT_ONCE) $(PACKAGES)

race: build servers ## the same under the race detector, the relay's own process included
	@. .ci/servers && CGO_ENABLED=1 GORACE="atexit_sleep_ms=20 $$GORACE" $(GO) test -race -vet=off -p $(AT_ONCE) $(PACKAGES)

SOAK ?= 30m
soak: build servers ## half an hour with everything on, reloads and faults: nothing fails, is lost or grows (SOAK=5m for less)
	@. .ci/servers && RELAY_TEST_SOAK=$(SOAK) $(GO) test -count=1 -v -timeout 120m -run '^TestSoak$$' ./proxy/process

fuzz: ## fuzz every parser for FUZZTIME each
	@set -e; for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -parallel 2 $$pkg; \
	  done; done

microbench: ## Go benchmarks, with allocations
	$(GO) test -run '^$$' -bench . -benchmem ./...

# Provider, relay and load generator, each a process of its own, on loopback.
RIG = $(GO) run ./bench/peers -with relay
bench: build ## the relay under every load, beside the provider itself; writes bench.html and bench.json
	$(RIG) bash -c 'bin/relay bench soak --url $$URL --pid $$PID --duration $(BENCHTIME) --out bench-soak.json'
	$(RIG) bash -c 'bin/relay bench rate json burst paced open mixed cancel --url $$URL --direct $$DIRECT --pid $$PID \
	  --duration $(BENCHTIME) --tries 3 --html bench.html --out bench.json'

pgo: build ## take the profile anew that builds are optimised by (needs curl)
	$(RIG) bash -c '(sleep 1; curl -sSf --unix-socket $$ADMIN -o bench/default.pgo "http://relay/debug/pprof/profile?seconds=26") & \
	  for s in paced burst json mixed; do bin/relay bench $$s --url $$URL --pid $$PID --duration 6s || exit; done; wait'

bench-nginx: build ## CPU, delay and memory as ratios to nginx (needs nginx)
	$(GO) run ./bench/peers -peers direct,nginx,relay

bench-haproxy: build ## the same with HAProxy, too (needs nginx and haproxy)
	$(GO) run ./bench/peers -peers direct,nginx,haproxy,relay

bench-vegeta: build bin/vegeta ## vegeta's view of JSON and streams
	$(RIG) bash bench/vegeta/run.sh $(CURDIR)/bin/vegeta

bench-k6: build bin/k6 ## k6's view of them, with thresholds
	$(RIG) env K6_NO_USAGE_REPORT=true bin/k6 run --quiet bench/k6/chat.js

bin/vegeta: bench/tools/go.mod
	cd bench/tools && $(GO) build -o ../../bin/vegeta github.com/tsenart/vegeta/v12

bin/k6: bench/tools/go.mod
	cd bench/tools && $(GO) build -o ../../bin/k6 go.k6.io/k6

dashboards: ## rewrite configs/grafana/*.json from the lists of panels there
	$(GO) generate ./configs/grafana

lint: ## gofmt, vet, staticcheck, the profile is whole
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	$(GO) tool preprofile -i bench/default.pgo -o /dev/null
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

cover: ## coverage by package
	$(GO) test -coverprofile=coverage.out ./... && $(GO) tool cover -func=coverage.out | tail -1

.PHONY: install uninstall release rehearse deploytest vulncheck

bin/relay:
	@$(MAKE) --no-print-directory build

SYSTEM := $(DESTDIR)$(PREFIX)
SHARED := $(SYSTEM)/share/doc/relay
# What is written once, then the operator's.
SETTINGS := relay.yaml blue.env green.env

install: $(BINARY) ## binary, systemd units and documents below DESTDIR; settings in /etc/relay only where there are none
	install -Dm755 $(BINARY) $(SYSTEM)/bin/relay
	install -Dm755 configs/systemd/relay-rollover $(SYSTEM)/sbin/relay-rollover
	install -d $(SYSTEM)/lib/systemd/system $(DESTDIR)/etc/relay
	for unit in relay.socket relay@.service; do \
	  sed 's|/usr/bin/relay|$(PREFIX)/bin/relay|; s|/usr/share/doc|$(PREFIX)/share/doc|' configs/systemd/$$unit > $(SYSTEM)/lib/systemd/system/$$unit; \
	  chmod 644 $(SYSTEM)/lib/systemd/system/$$unit; done
	install -Dm644 configs/systemd/relay.sysusers $(SYSTEM)/lib/sysusers.d/relay.conf
	install -Dm644 configs/systemd/relay.tmpfiles $(SYSTEM)/lib/tmpfiles.d/relay.conf
	install -Dm644 -t $(SHARED) README.md configs/quickstart.zh-CN.md configs/relay.reference.yaml configs/relay.example.yaml configs/systemd/90-relay.conf $(LICENCES)
	install -m644 configs/README.md $(SHARED)/configs.md
	for file in $(SETTINGS); do [ -e $(DESTDIR)/etc/relay/$$file ] || install -m640 configs/systemd/$$file $(DESTDIR)/etc/relay/$$file; done
	@[ -n "$(DESTDIR)" ] || echo "next: systemd-sysusers && systemd-tmpfiles --create && systemctl daemon-reload"

uninstall: ## remove what install put there; /etc/relay and /var/lib/relay stay
	rm -f $(SYSTEM)/bin/relay $(SYSTEM)/sbin/relay-rollover $(SYSTEM)/lib/systemd/system/relay.socket $(SYSTEM)/lib/systemd/system/relay@.service
	rm -f $(SYSTEM)/lib/sysusers.d/relay.conf $(SYSTEM)/lib/tmpfiles.d/relay.conf
	rm -rf $(SHARED)

release: ## dist/: amd64 and arm64, each built twice to the same bytes; .deb, components, licences, SHA-256 sums
	@GO='$(GO)' PGO='$(PGO)' VERSION='$(VERSION)' REVISION='$(REVISION)' LDFLAGS='$(LDFLAGS)' NFPM='$(NFPM)' CYCLONEDX='$(CYCLONEDX)' \
	  configs/package/release.sh

rehearse: build ## units and .deb under a real systemd in a throw-away container (root, systemd-container)
	configs/systemd/rehearse.sh
	configs/package/rehearse.sh

deploytest: build ## check the files for systemd, containers and Kubernetes
	cd configs/deploytest && $(GO) vet ./... && $(GO) test -count=1 ./... # the files are outside of its module, so a cached result says nothing

vulncheck: ## known vulnerabilities in what is linked; says so where their database is out of reach
	@GOBIN=$(CURDIR)/bin/tools $(GO) install $(GOVULNCHECK)
	@bin/tools/govulncheck ./... > bin/tools/govulncheck.out 2>&1; code=$$?; \
	case $$code in \
	  0|3) cat bin/tools/govulncheck.out; exit $$code;; \
	  *) if grep -qiE 'fetching vulnerabilities|dial tcp|403|lookup ' bin/tools/govulncheck.out; then \
	       echo "vulncheck: not done, the database is out of reach: $$(tail -1 bin/tools/govulncheck.out)"; \
	     else cat bin/tools/govulncheck.out; exit $$code; fi;; \
	esac

servers: ## find or install the servers that tests use
	@.ci/servers

clean: ## remove what was built
	rm -rf bin dist coverage.out bench.html bench.json bench-soak.json
