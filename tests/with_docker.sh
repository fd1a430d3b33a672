#!/usr/bin/env bash
# Runs a command with a Docker engine of its own, which ends with it:
#   tests/with_docker.sh make images rehearse
# For machines that have no engine running, such as those of CI; needs root and Debian.
set -euo pipefail

command -v dockerd >/dev/null && command -v debootstrap >/dev/null || {
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    docker.io debootstrap >/dev/null
}
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
  kill "$engine" 2>/dev/null && wait "$engine" || true
  rm -rf "$folder"
}
trap stop EXIT
for _ in $(seq 100); do
  docker version >/dev/null 2>&1 && break
  kill -0 "$engine" || { cat "$folder/log"; exit 1; }
  sleep 0.2
done
# What passes between containers of one network is not the firewall's business.
if [ -e /proc/sys/net/bridge/bridge-nf-call-iptables ]; then
  echo 0 >/proc/sys/net/bridge/bridge-nf-call-iptables
fi
"$@"
