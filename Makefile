# Every verb of the project; `make help` lists them. Targets are thin: what they do
# lives in the packages and tests.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := shared $(sort $(dir $(wildcard services/*/pyproject.toml)))
SOURCES := shared/src $(wildcard services/*/src) tests
STAMP := $(VENV)/.ready
# What checks the manifests has dependencies of its own.
CHECKS := $(VENV)/k8s
# The tests of one file share what they start, so one worker has them all.
# Half of the time is waiting, so two cores do the work of three.
PYTEST := $(BIN)/python -m pytest -n 3 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup run cluster test test-again test-unit test-integration test-e2e faults soak drill dashboards bench bench-quick bench-full k8s-check images ship rehearse test-containers lint format types check lock clean

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "make %-18s %s\n", $$1, $$2}' Makefile

setup: $(STAMP) ## create .venv from the pinned requirements

$(STAMP): requirements.txt shared/pyproject.toml $(wildcard services/*/pyproject.toml)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps $(foreach package,$(PACKAGES),-e $(package))
	@touch $@

run: setup ## run everything on this machine, with simulated feeds unless keys are set
	@exec $(BIN)/python -m launcher

cluster: setup ## run three NATS servers with the settings of production
	@exec $(BIN)/python -m launcher.cluster

test: setup ## run all tests
	$(PYTEST)

test-again: setup ## run the tests that failed last, one at a time
	$(BIN)/python -m pytest -n 0 --last-failed --last-failed-no-failures none

test-unit: setup ## run the tests without I/O
	$(PYTEST) tests/unit

test-integration: setup ## run the tests against a real nats-server and real sockets
	$(PYTEST) tests/integration

test-e2e: setup ## run the tests of all processes together, and of the page
	$(PYTEST) tests/e2e

faults: setup ## run the fault suites at full length; SUITES="replicas nodes" for some
	$(BIN)/python tests/faults $(SUITES)

soak: setup ## an hour with a fault every 30 s
	$(BIN)/python tests/faults soak

drill: setup ## have alerts raised by faults, with a real Prometheus
	cd tests && ../$(BIN)/python -m drill

dashboards: setup ## make the dashboards and their pictures anew
	cd tests/unit && ../../$(BIN)/python -m monitoring.dashboards

bench: setup ## compare the edge with other gateways, 25 min; nothing else should run
	cd tests && ../$(BIN)/python -m bench --save

bench-quick: setup ## the same, roughly, 5 min
	cd tests && ../$(BIN)/python -m bench --quick

bench-full: setup ## the same, exactly, 45 min
	cd tests && ../$(BIN)/python -m bench --full --save

$(CHECKS)/.ready: k8s/requirements.txt $(STAMP)
	$(PYTHON) -m venv --without-pip $(CHECKS)
	$(BIN)/uv pip install --quiet --python $(CHECKS)/bin/python --require-hashes -r k8s/requirements.txt
	@touch $@

k8s-check: setup $(CHECKS)/.ready ## check the manifests and the Dockerfile, without a cluster
	$(CHECKS)/bin/hadolint Dockerfile
	$(CHECKS)/bin/python k8s/check.py
	$(BIN)/python -m pytest -q tests/unit/test_k8s.py tests/unit/test_images.py

images: setup ## build the images with Docker
	$(BIN)/python images/build.py

ship: setup ## images, compose, rehearsal and NATS in containers, with Docker
	tests/with_docker.sh tests/in_containers.sh

rehearse: setup ## run what k8s/overlays/prod renders to as containers, and disturb it
	PYTHONPATH=tests $(BIN)/python -m rehearse

test-containers: setup ## run the integration tests against NATS in containers
	TEST_NATS=container $(PYTEST) tests/integration

lint: setup ## check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup ## mend style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup ## check types
	$(BIN)/mypy $(SOURCES)

check: lint types test ## everything that must hold

lock: ## pin the newest versions of everything, with hashes
	for folder in . k8s; do \
	  $(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url \
	    --no-annotate --no-header --python-version 3.11 \
	    $$folder/requirements.in -o $$folder/requirements.txt || exit 1; \
	done
	$(BIN)/python images/lock.py

clean: ## remove what make and the tests have made, the data of make run included
	rm -rf $(VENV) .data .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find shared services tests -name __pycache__ -prune -exec rm -rf {} +
	find shared services -name '*.egg-info' -prune -exec rm -rf {} +
