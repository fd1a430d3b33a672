#!/usr/bin/env bash
# Runs a command with a Docker engine of its own, which ends with it:
#   tests/with_docker.sh make images rehearse
# For machines that have no engine running, such as those of CI; needs root and Debian.
# Ends with 75, and says so loudly, where no engine can be had; the command has not run then.
set -euo pipefail

cannot() {
  printf '\n*** NOT RUN: %s\n*** %s: %s\n\n' "$command" "no Docker engine" "$1" >&2
  exit 75
}
command=$*

install() {
  apt-get update -qq || return
  local wanted=(docker.io debootstrap)
  # Newer Debians ship the command of Docker apart.
  ! apt-cache show docker-cli >/dev/null 2>&1 || wanted+=(docker-cli)
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 install -y -qq \
    --no-install-recommends "${wanted[@]}" >/dev/null
}
there() {
  command -v dockerd && command -v docker && command -v debootstrap
} >/dev/null
for attempt in 1 2 3; do
  ! there || break
  install || sleep $((attempt * 5))
done
there || cannot "the packages cannot be installed"

folder=$(mktemp -d)
export DOCKER_HOST=unix://$folder/docker.sock
# The builder that needs nothing but the engine.
export DOCKER_BUILDKIT=0 TESTCONTAINERS_RYUK_DISABLED=true
# No default bridge and no rules: containers have networks of their own, and other
# users of the machine's network notice nothing.
dockerd --host "$DOCKER_HOST" --data-root "$folder/data" --exec-root "$folder/exec" \
  --pidfile "$folder/pid" --bridge=none --iptables=false --ip6tables=false \
  >"$folder/log" 2>&1 &
engine=$!
stop() {
  # It ends what still runs, within seconds; if it hangs, it goes all the same.
  kill "$engine" 2>/dev/null || true
  for _ in $(seq 300); do kill -0 "$engine" 2>/dev/null && sleep 0.2 || break; done
  kill -KILL "$engine" 2>/dev/null || true
  # What it has mounted outlives it when it had to be killed.
  awk -v under="$folder/" 'index($2, under) == 1 { print $2 }' /proc/mounts \
    | sort -r | xargs -r -n 1 umount --lazy || true
  rm -rf "$folder" 2>/dev/null || echo "left behind: $folder" >&2
}
trap stop EXIT
for _ in $(seq 300); do
  docker version >/dev/null 2>&1 && break
  kill -0 "$engine" 2>/dev/null || break
  sleep 0.2
done
docker version >/dev/null 2>&1 || cannot "$(tail -5 "$folder/log")"
# What passes between containers of one network is not the firewall's business.
if [ -e /proc/sys/net/bridge/bridge-nf-call-iptables ]; then
  echo 0 >/proc/sys/net/bridge/bridge-nf-call-iptables
fi
"$@"
