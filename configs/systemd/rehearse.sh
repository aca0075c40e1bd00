#!/usr/bin/env bash
# rehearse.sh: the units under a real systemd, in a throw-away container that
# systemd-nspawn boots from this machine's /usr: its own processes, network and
# /etc, nothing of the host is changed. It installs bin/relay by `make install`,
# loads it with `relay bench` against `relay simulate` (whether the generator was
# in time is not judged), and tries
#   swap        SWAPS times blue/green, under streams of 5 s and keep-alive requests
#   reload      a reload each half second under load, and a broken file that is refused
#   watchdog    a relay that is stopped (SIGSTOP) is killed and comes back
#   drain       a stream of 12 s outlives TimeoutStopSec=3
#   credential  the relay reads its own credential; its sandbox shows it nothing else
# It prints a line for each, ends by itself within LIMIT seconds, leaves nothing
# behind, and exits 1 where one of them is not as it should be, 2 where this
# machine cannot boot it. As root, with Debian's systemd-container:
#   make build && configs/systemd/rehearse.sh [PART...]
set -euo pipefail
cd "$(dirname "$0")/../.."
SWAPS=${SWAPS:-12} STREAMS_RATE=${STREAMS_RATE:-40} RATE=${RATE:-1000} LIMIT=${LIMIT:-420}
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(credential swap reload watchdog drain)

. configs/systemd/container.sh
may_boot
[ -x bin/relay ] || { echo "rehearse: no bin/relay: run make build" >&2; exit 2; }

make --silent install DESTDIR="$work/root" PREFIX=/usr BINARY=bin/relay

boot --directory=/ --volatile=yes --bind-ro="$work/root:/run/rehearsal"

# The container's /usr is the host's, read-only: units go to /etc, programs to /run/bin.
inside bash -euc '
  mkdir -p /etc/systemd/system /etc/sysusers.d /etc/tmpfiles.d /run/bin /etc/relay/credentials
  cp /run/rehearsal/usr/bin/relay /run/rehearsal/usr/sbin/relay-rollover /run/bin/
  for unit in relay.socket relay@.service; do sed "s|/usr/bin/relay|/run/bin/relay|" /run/rehearsal/usr/lib/systemd/system/$unit > /etc/systemd/system/$unit; done
  cp /run/rehearsal/usr/lib/sysusers.d/relay.conf /etc/sysusers.d/; cp /run/rehearsal/usr/lib/tmpfiles.d/relay.conf /etc/tmpfiles.d/
  cp /run/rehearsal/etc/relay/* /etc/relay/
  sed -i "s|https://api.openai.com/v1|http://127.0.0.1:8081/v1|" /etc/relay/relay.yaml
  echo "limits: {keepalive_timeout: 3s}" >> /etc/relay/relay.yaml # the old instance goes when the last idle client has
  printf sk-rehearsal-provider > /etc/relay/credentials/openai
  systemd-sysusers 2> /dev/null; systemd-tmpfiles --create relay.conf
  systemctl daemon-reload
  systemd-run --quiet --unit=provider /run/bin/relay simulate --listen 127.0.0.1:8081 --key sk-rehearsal-provider
  systemctl enable --quiet --now relay.socket
  /run/bin/relay-rollover > /dev/null'
key=$(inside /run/bin/relay keys create --config /etc/relay/relay.yaml --name rehearsal 2> /dev/null)
ask() { inside curl -sS -o /dev/null -w '%{http_code}' http://127.0.0.1:8080/v1/models -H "Authorization: Bearer $key"; }
for _ in $(seq 50); do [ "$(ask)" = 401 ] || break; sleep 0.1; done # a running relay takes a new key up within a second
inside systemctl is-active --quiet relay@blue || { inside journalctl --no-pager -u relay@blue | tail -20 >&2; exit 1; }

admin() { [ "$(active)" = blue ] && echo 127.0.0.1:9090 || echo 127.0.0.1:9091; }
active() { inside systemctl is-active --quiet relay@green && echo green || echo blue; }
declare -A loads
# load NAME BENCH-ARGUMENTS: runs in the background, its report goes to a file.
load() { local name=$1; shift; inside env RELAY_BENCH_KEY="$key" /run/bin/relay bench "$@" --url http://127.0.0.1:8080 --json > "$work/$name.json" 2> "$work/$name.err" & loads[$name]=$!; }
ended() { for name in "$@"; do wait "${loads[$name]}" || [ -s "$work/$name.json" ] || cat "$work/$name.err" >&2; done; }
# field FILE NAME: the first number of that name.
field() { grep -o "\"$2\": *[0-9.e+-]*" "$work/$1.json" | head -1 | sed 's/.*: *//'; }
# fine NAME: no error in the report, and something in it.
fine() { [ "$(field "$1" failed)$(field "$1" broken)" = 00 ] && [ "$(field "$1" requests)" -gt 0 ] && echo yes || echo no; }
report() { echo "$(field "$1" requests) requests, $(field "$1" failed) failed, $(field "$1" broken) broken, p99 $(field "$1" p99) s, max $(field "$1" max) s $(tr -d '\n' < "$work/$1.json" | grep -o '"errors_by_class": *{[^}]\+}' || true)"; }

for part in "${parts[@]}"; do
  case $part in
  credential)
    pid=$(inside systemctl show --property=MainPID --value "relay@$(active)")
    # What the relay's own user sees within its sandbox.
    seen=$(inside nsenter -t "$pid" -m -- setpriv --reuid=relay --regid=relay --clear-groups bash -c '
      [ "$(cat /run/credentials/relay@*/credential_openai)" = sk-rehearsal-provider ] && echo credential
      ls /etc/relay/credentials > /dev/null 2>&1 && echo folder
      ls /root /home/* > /dev/null 2>&1 && echo homes
      : 2> /dev/null > /etc/relay/written && echo settings
      : 2> /dev/null > /var/lib/relay/written && rm /var/lib/relay/written && echo state' 2> /dev/null || true)
    say credential "the relay's user can use: $(echo $seen)" "$([ "$(echo $seen)" = "credential state" ] && echo yes || echo no)"
    caps=$(inside grep -E '^(CapEff|NoNewPrivs|Seccomp):' "/proc/$pid/status" | tr -s '\t\n' '  ')
    say credential "$caps" "$([[ $caps == *"CapEff: 0000000000000000"*"NoNewPrivs: 1"*"Seccomp: 2"* ]] && echo yes || echo no)"
    ;;
  swap)
    seconds=$((SWAPS * 10 + 10))
    load streams open --rate "$STREAMS_RATE" --streams 2000 --duration "${seconds}s" --simulate ttft=150ms,gap=100ms,events=49
    load requests json --rate "$RATE" --streams 64 --duration "${seconds}s"
    sleep 3
    swaps=0
    for _ in $(seq "$SWAPS"); do inside /run/bin/relay-rollover > "$work/rollover" 2>&1 && swaps=$((swaps + 1)) || cat "$work/rollover"; sleep 4; done
    ended streams requests
    say swap "$swaps of $SWAPS swaps" "$([ "$swaps" = "$SWAPS" ] && echo yes || echo no)"
    say swap "streams: $(report streams)" "$(fine streams)"
    say swap "requests: $(report requests)" "$(fine requests)"
    ;;
  reload)
    load reloads json --rate "$RATE" --streams 64 --duration 10s
    sleep 2
    reloaded=0
    for _ in $(seq 15); do inside systemctl reload "relay@$(active)" && reloaded=$((reloaded + 1)); sleep 0.5; done
    ended reloads
    say reload "$reloaded of 15 reloads; $(report reloads)" "$([ $reloaded = 15 ] && fine reloads || echo no)"
    inside bash -c 'cp /etc/relay/relay.yaml /run/good.yaml; echo "lisen: 1" >> /etc/relay/relay.yaml'
    inside systemctl reload "relay@$(active)"
    refused=no
    for _ in $(seq 20); do [ "$(inside curl -sS "http://$(admin)/metrics" 2> /dev/null | grep -c '^relay_config_last_reload_successful 0')" = 1 ] && refused=yes && break; sleep 0.2; done
    inside cp /run/good.yaml /etc/relay/relay.yaml
    serves=no; inside /run/bin/relay healthcheck --ready > /dev/null 2>&1 && serves=yes
    say reload "a broken file: refused $refused, still serves $serves" "$([ $refused$serves = yesyes ] && echo yes || echo no)"
    ;;
  watchdog)
    unit=relay@$(active) pid=$(inside systemctl show --property=MainPID --value "relay@$(active)")
    inside kill -STOP "$pid"
    for _ in $(seq 60); do [ "$(inside systemctl show --property=NRestarts --value "$unit")" != 0 ] && inside /run/bin/relay healthcheck --ready > /dev/null 2>&1 && break; sleep 0.5; done
    restarts=$(inside systemctl show --property=NRestarts --value "$unit")
    dump=no; [ "$(inside journalctl --no-pager -u "$unit" | grep -c 'goroutine ')" -gt 0 ] && dump=yes
    serves=no; inside /run/bin/relay healthcheck --ready > /dev/null 2>&1 && serves=yes
    say watchdog "restarts $restarts, stacks in the journal $dump, serves again $serves" "$([ "$restarts$dump$serves" = 1yesyes ] && echo yes || echo no)"
    ;;
  drain)
    unit=relay@$(active)
    inside bash -euc "mkdir -p /run/systemd/system/relay@.service.d; printf '[Service]\nTimeoutStopSec=3\n' > /run/systemd/system/relay@.service.d/short.conf; systemctl daemon-reload"
    inside curl -sSN --max-time 60 http://127.0.0.1:8080/v1/chat/completions -H "Authorization: Bearer $key" -H 'Content-Type: application/json' \
      -H 'X-Simulate: ttft=100ms,gap=200ms,events=60' -d '{"model":"any","stream":true,"messages":[]}' > "$work/stream" 2>&1 & stream=$!
    sleep 1
    started=$SECONDS
    inside systemctl stop relay.socket "$unit" 2> /dev/null
    took=$((SECONDS - started))
    wait "$stream" || true
    whole=no; grep -q '^data: \[DONE\]' "$work/stream" && whole=yes
    result=$(inside systemctl show --property=Result --value "$unit")
    say drain "stopped after $took s by $result, stream whole: $whole" "$([ "$whole$result" = yessuccess ] && [ $took -ge 8 ] && echo yes || echo no)"
    inside bash -euc 'rm -r /run/systemd/system/relay@.service.d; systemctl daemon-reload; systemctl start relay.socket; /run/bin/relay-rollover' > /dev/null
    ;;
  *) echo "rehearse: no part $part" >&2; exit 2 ;;
  esac
done
wrong=$(inside journalctl --no-pager -u 'relay@*' | grep -cE 'panic|BUG|DATA RACE' || true)
say journal "$wrong lines with a panic or a BUG" "$([ "$wrong" = 0 ] && echo yes || echo no)"
exit $failed
