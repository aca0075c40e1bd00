#!/usr/bin/env bash
# Writes default.pgo, the profile that the compiler goes by: a relay with
# everything on, under each kind of load, on loopback.
set -euo pipefail
relay=$(realpath "${1:-bin/relay}") out=$(realpath -m "${2:-default.pgo}") seconds=${3:-15}
dir=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; wait; rm -rf "$dir"' EXIT
cd "$dir"
"$relay" simulate --listen 127.0.0.1:18081 >/dev/null &
cat > relay.yaml <<YAML
listen: 127.0.0.1:18080
admin: {listen: "127.0.0.1:19090"}
upstreams: [{name: simulated, base_url: "http://127.0.0.1:18081/v1", dialect: openai, credentials: [{value: any}]}]
YAML
key=$("$relay" keys create --name pgo 2>/dev/null)
"$relay" serve >/dev/null &
until "$relay" healthcheck --address 127.0.0.1:18080 --ready 2>/dev/null; do sleep 0.1; done
i=0
for load in "json" "burst" "paced --streams 500" "mixed" "rate"; do
  i=$((i + 1))
  # shellcheck disable=SC2086 # the words of a load are its arguments
  "$relay" bench $load --url http://127.0.0.1:18080 --key "$key" --duration "$((seconds + 3))s" > "bench-$i.txt" || true
  cat "bench-$i.txt" | head -4
done &
benches=$!
sleep 2
for n in 1 2 3 4 5; do
  curl -fsS -o "cpu-$n.pprof" "http://127.0.0.1:19090/debug/pprof/profile?seconds=$seconds"
  sleep 3
done
wait "$benches"
go tool pprof -proto cpu-*.pprof > "$out" 2>/dev/null
ls -l "$out"
