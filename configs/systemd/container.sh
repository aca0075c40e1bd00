# Sourced by the rehearsals: boots a real systemd in a throw-away container, by
# systemd-nspawn, with processes, network and /etc of its own, and ends it.
#   may_boot TOOL...   exits 2 where this machine cannot
#   boot ARGUMENT...   of systemd-nspawn; it has them say what its / is
#   inside COMMAND...  runs in the container
#   say PART TEXT yes  prints a line; with another word than yes it is WRONG
# LIMIT seconds bound all of it. $work is a folder that goes at the end, $failed
# becomes 1 with the first WRONG line; the script exits with it.
work=$(mktemp -d)
container='' failed=0 limit='' mounts=()
program=$(basename "$(dirname "$0")")

may_boot() {
  [ "$(id -u)" = 0 ] || { echo "rehearse: run it as root, which systemd-nspawn wants" >&2; exit 2; }
  for tool in systemd-nspawn nsenter make curl "$@"; do
    command -v "$tool" > /dev/null || { echo "rehearse: no $tool (Debian: systemd-container, util-linux, make, curl)" >&2; exit 2; }
  done
}

leader() { ps -o pid= --ppid "$container" 2> /dev/null | head -1 | tr -d ' '; }
inside() { nsenter -t "$(leader)" -m -u -i -n -p -C -- "$@"; }

cleanup() {
  [ -z "$limit" ] || kill "$limit" 2> /dev/null || true
  # Its first process takes every other one along.
  [ -z "$container" ] || { kill -KILL "$(leader)" "$container" 2> /dev/null || true; wait "$container" 2> /dev/null || true; }
  for mount in "${mounts[@]}"; do umount "$mount" 2> /dev/null || umount --lazy "$mount"; done
  rm -rf "$work"
}
trap cleanup EXIT
trap 'echo "rehearse: took more than $LIMIT s" >&2; exit 1' ALRM

boot() {
  local self=$$
  bash -c "trap 'kill \$!' TERM; sleep $LIMIT & wait \$! && kill -ALRM $self" > /dev/null 2>&1 & limit=$!
  systemd-nspawn --quiet --register=no --keep-unit --private-network --link-journal=no --console=pipe -M "relay-$program-$$" "$@" \
    --boot systemd.unit=basic.target systemd.mask=systemd-networkd-wait-online.service > "$work/console" 2>&1 < /dev/null &
  container=$!
  for _ in $(seq 120); do
    case "$(inside systemctl is-system-running 2> /dev/null || true)" in running | degraded | starting) inside systemctl is-active --quiet basic.target && return ;; esac
    sleep 0.5
  done
  echo "rehearse: the container did not boot" >&2
  tail -20 "$work/console" >&2
  exit 2
}

say() {
  if [ "$3" = yes ]; then echo "ok    $1: $2"; else echo "WRONG $1: $2"; failed=1; fi
}
