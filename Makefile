# Stream Relay. `make` alone lists the targets.
SHELL := /bin/bash
GO ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
REVISION ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.revision=$(REVISION)
FUZZTIME ?= 20s
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

.DEFAULT_GOAL := help
.PHONY: help build run test race fuzz bench compare lint cover servers clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/relay: static, stamped with the version
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/relay .

run: build ## stream a chat completion through the relay, then keep serving
	./bin/relay demo

test: build servers ## run every test that this machine can run
	@. .ci/servers && $(GO) test ./...

race: build servers ## the same under the race detector
	@. .ci/servers && $(GO) test -race ./...

fuzz: ## fuzz every parser for FUZZTIME each
	@set -e; for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -parallel 2 $$pkg; \
	  done; done

bench: ## Go benchmarks, with allocations
	$(GO) test -run '^$$' -bench . -benchmem ./...

compare: build ## CPU, delay and memory beside nginx on this machine (needs nginx)
	$(GO) run ./bench/peers --relay bin/relay

lint: ## gofmt, vet, staticcheck
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

cover: ## coverage by package
	$(GO) test -coverprofile=coverage.out ./... && $(GO) tool cover -func=coverage.out | tail -1

servers: ## find or install the servers that tests use
	@.ci/servers

clean: ## remove what was built
	rm -rf bin coverage.out
