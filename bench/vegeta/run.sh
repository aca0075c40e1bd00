#!/usr/bin/env bash
# run.sh VEGETA: both targets against $URL with $KEY, reports on standard output.
# Fails where an answer was not a 200: vegeta itself has no thresholds.
set -euo pipefail
cd "$(dirname "$0")"
vegeta=$1
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
attack() { # name, rate
  sed -e "s#http://127.0.0.1:8080#${URL:-http://127.0.0.1:8080}#" -e "s#sk-relay-test-key-123#${KEY:-sk-relay-test-key-123}#" "$1.txt" |
    "$vegeta" attack -rate "$2" -duration "${DURATION:-10s}" >"$results/$1"
  echo "== $1, $2/s"
  "$vegeta" report "$results/$1"
  "$vegeta" report -type=json "$results/$1" | grep -q '"success":1,' || { echo "$1: not every answer was a 200" >&2; failed=1; }
}
failed=0
attack json 500
attack stream 20
exit $failed
