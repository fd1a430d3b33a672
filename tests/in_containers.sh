#!/usr/bin/env bash
# What is shipped, looked at in containers, from nothing to a rehearsed cluster; needs a
# Docker engine, as tests/with_docker.sh gives one:
#   tests/with_docker.sh tests/in_containers.sh
set -euo pipefail
cd "$(dirname "$0")/.."

said() { printf '\n=== in containers: %s (%s s so far)\n' "$1" "$SECONDS"; }

said "images"
make images
said "what the images hold, and compose.yaml"
TEST_IMAGES=1 .venv/bin/python -m pytest -n 0 tests/shipped
said "the rehearsal"
# This machine may be busy: figures are printed, and held to only roughly.
make .venv/k8s/.ready
PYTHONPATH=tests .venv/bin/python -m rehearse --patience 4
said "integration tests with NATS in containers"
# Those that have the most to do with the server, as far as there is time: the rest, such
# as what edges refuse and simulators say, is left to `make test-containers`.
cd tests/integration
TEST_NATS=container ../../.venv/bin/python -m pytest -n 2 --dist loadfile \
  ingest_fmp/test_ingest.py \
  edge/test_{drain,gaps,news_contract,price_merge_real,recovery,rest_v3,stream}.py \
  shared/test_{bus,doctor,fast_lane,gaps,leadership,log_publisher,price_publisher}.py
said "done"
