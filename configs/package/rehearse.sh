#!/usr/bin/env bash
# rehearse.sh: the .deb under a real systemd and dpkg, in a throw-away container
# whose / is this machine's with an overlay: nothing of the host is changed. It
# makes two versions of the package from this tree and tries
#   install   user, folders and modes are there; nothing runs before it is told to
#   serve     the printed steps, then a request
#   upgrade   under load no request fails, the new binary serves, settings stay
#   remove    ends the service, takes the programs away, leaves settings and keys
#   purge     takes the settings away, leaves keys and the user
# As root, with Debian's systemd-container: configs/package/rehearse.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
LIMIT=${LIMIT:-300} RATE=${RATE:-300} GO=${GO:-go} NFPM=${NFPM:-github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.0}
. configs/systemd/container.sh
may_boot dpkg mount

# deb VERSION: a package as configs/package/release.sh makes it.
GOBIN=$PWD/bin/tools $GO install "$NFPM"
deb() {
  CGO_ENABLED=0 $GO build -trimpath -ldflags "-s -w -X main.version=v$1 -X main.revision=rehearsal" -o "$work/$1/relay" .
  make --no-print-directory --silent install BINARY="$work/$1/relay" DESTDIR="$work/stage-$1" PREFIX=/usr
  STAGE=$work/stage-$1 ARCH=$(dpkg --print-architecture) DEB_VERSION=$1 bin/tools/nfpm package --config configs/package/nfpm.yaml --packager deb --target "$work/$1.deb" > "$work/nfpm" 2>&1 || { cat "$work/nfpm" >&2; exit 1; }
}
deb 1.0.0
deb 1.0.1

mkdir "$work/overlay"
mount -t tmpfs -o size=1g tmpfs "$work/overlay" && mounts=("$work/overlay")
mkdir "$work/overlay/upper" "$work/overlay/work" "$work/overlay/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/overlay/upper,workdir=$work/overlay/work" "$work/overlay/root" && mounts=("$work/overlay/root" "${mounts[@]}")
rm -f "$work/overlay/root/etc/machine-id"
mkdir -p "$work/overlay/root/opt/rehearsal"
cp "$work"/*.deb "$work/overlay/root/opt/rehearsal/"
cp "$work/1.0.0/relay" "$work/overlay/root/opt/rehearsal/" # the provider and the load are not the package's
boot --directory="$work/overlay/root"

# fact PART TEXT COMMAND...: whether the command says yes.
fact() { local part=$1 text=$2; shift 2; if inside "$@" > "$work/out" 2>&1; then say "$part" "$text" yes; else say "$part" "$text: $(tail -3 "$work/out")" no; fi; }
owner() { inside stat -c '%U:%G %a' "$1" 2> /dev/null || echo none; }
package() { inside env DEBIAN_FRONTEND=noninteractive dpkg --force-confold "$@" > "$work/dpkg" 2>&1 || { cat "$work/dpkg"; return 1; }; }

package -i /opt/rehearsal/1.0.0.deb
say install "told what comes next" "$(grep -q relay-rollover "$work/dpkg" && echo yes)"
say install "relay.yaml $(owner /etc/relay/relay.yaml), credentials $(owner /etc/relay/credentials), state $(owner /var/lib/relay)" \
  "$([ "$(owner /etc/relay/relay.yaml), $(owner /etc/relay/credentials), $(owner /var/lib/relay)" = 'root:relay 640, root:root 700, relay:relay 700' ] && echo yes)"
fact install "nothing runs yet" bash -c '! systemctl --quiet is-active relay@blue relay@green relay.socket'
fact install "relay version says 1.0.0" bash -c 'relay version | grep -q 1\\.0\\.0'

inside systemd-run --quiet --unit=provider /opt/rehearsal/relay simulate --listen 127.0.0.1:8081 --ttft 10ms --gap 1ms
inside bash -euc 'sed -i "s|https://api.openai.com/v1|http://127.0.0.1:8081/v1|" /etc/relay/relay.yaml
  echo "limits: {keepalive_timeout: 3s}" >> /etc/relay/relay.yaml # the old instance goes when the last idle client has
  printf sk-provider > /etc/relay/credentials/openai'
fact serve "relay.yaml can be checked as it says itself" systemd-run --quiet --pipe --wait --property=LoadCredential=credential:/etc/relay/credentials \
  relay check --config /etc/relay/relay.yaml
key=$(inside relay keys create --config /etc/relay/relay.yaml --name first 2> "$work/keys") || cat "$work/keys" >&2
inside relay-rollover > "$work/rollover" 2>&1 || cat "$work/rollover" >&2
ask() { inside curl -sS -o /dev/null -w '%{http_code}' http://127.0.0.1:8080/v1/models -H "Authorization: Bearer $key" 2>&1 || true; }
for _ in $(seq 50); do [ "$(ask)" != 200 ] || break; sleep 0.1; done
say serve "a request with the key gets $(ask)" "$([ "$(ask)" = 200 ] && echo yes)"
fact serve "it is started at boot" systemctl --quiet is-enabled relay@blue
[ $failed = 0 ] || inside journalctl --no-pager -u 'relay@*' | tail -20

inside env RELAY_BENCH_KEY="$key" /opt/rehearsal/relay bench json --rate "$RATE" --streams 64 --duration 12s --url http://127.0.0.1:8080 --json > "$work/load.json" 2> "$work/load.err" &
load=$!
sleep 3
package -i /opt/rehearsal/1.0.1.deb
wait "$load" || [ -s "$work/load.json" ] || cat "$work/load.err" >&2
field() { grep -o "\"$1\": *[0-9.e+-]*" "$work/load.json" | head -1 | sed 's/.*: *//'; }
say upgrade "$(field requests) requests meanwhile, $(field failed) failed, $(field broken) broken" "$([ "$(field failed)$(field broken)" = 00 ] && [ "$(field requests)" -gt 0 ] && echo yes)"
fact upgrade "the new instance serves" systemctl --quiet is-active relay@green
fact upgrade "it is version 1.0.1" bash -c 'curl -sS http://127.0.0.1:9091/metrics | grep -q "relay_build_info{.*version=\"v1\\.0\\.1\""'
fact upgrade "the operator's settings stay" grep -q 127.0.0.1:8081 /etc/relay/relay.yaml
say upgrade "the key is good: $(ask)" "$([ "$(ask)" = 200 ] && echo yes)"

package -r relay
fact remove "nothing runs" bash -c '! systemctl --quiet is-active relay@blue relay@green relay.socket'
fact remove "the programs are gone" bash -c '! command -v relay && ! ls /lib/systemd/system/relay*'
fact remove "settings and keys stay" ls /etc/relay/relay.yaml /etc/relay/credentials/openai /var/lib/relay/keys.yaml

package -i /opt/rehearsal/1.0.1.deb
inside relay-rollover > "$work/rollover" 2>&1 || cat "$work/rollover" >&2
say remove "installed again it serves: $(ask)" "$([ "$(ask)" = 200 ] && echo yes)"
package -P relay
fact purge "the settings are gone" bash -c '! ls /etc/relay/relay.yaml /etc/relay/blue.env'
fact purge "keys, credentials and the user stay" bash -c 'ls /var/lib/relay/keys.yaml /etc/relay/credentials/openai && getent passwd relay'
exit $failed
