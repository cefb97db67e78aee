# Everything a checkout needs: Python 3.11 or later, and this file. `make` alone lists the targets.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
DEMO := $(VENV)/.installed-demo
STAMP := $(VENV)/.installed-all
# Two processes a core, since many tests wait: for one at a time, make test PARALLEL=
PARALLEL ?= --numprocesses auto --dist loadgroup
CODE := schemas enrichment streams ebbtide tests $(wildcard tools bench examples)

# The first Python that is new enough; `make PYTHON=…` to choose one.
PYTHON ?= $(shell for name in python3 python3.11 python3.12 python3.13 python3.14; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$name"; break; }; done)

# Compiled modules are kept in the environment, also where a machine says that none be written: else each of the many
# processes that tests start would spend seconds on compiling all that it imports.
export PYTHONDONTWRITEBYTECODE =
export PYTHONPYCACHEPREFIX = $(abspath $(VENV))/compiled
# Tests run side by side; more threads within one would only wait for each other, busily.
test test-deep faults: export OPENBLAS_NUM_THREADS = 1
test test-deep faults: export OMP_NUM_THREADS = 1

.DEFAULT_GOAL := help
.PHONY: help install demo test test-deep simulate faults fuzz bench lint lint-kernel docs format schemas schemas-check up observe down lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: $(DEMO) ## make .venv and install Ebbtide into it, with what the demo needs

demo: $(DEMO) ## stream a real data set through an embedded broker and Redis, and print what came of it
	$(BIN)/ebbtide demo

test: $(STAMP) ## run the tests, on the best Kafka and Redis of this machine (ARGS="-k name" for some; 9 to 20 minutes)
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

test-deep: $(STAMP) ## run all tests, also those that take long and find little more (35 to 90 minutes)
	$(BIN)/python -m pytest --deep $(PARALLEL) $(ARGS)

simulate: $(STAMP) ## simulate RUNS=10000 seeds with every kind of fault, from FIRST=0 on
	$(BIN)/python -m tests.simulation.runs --runs $(or $(RUNS),10000) --first $(or $(FIRST),0)

faults: $(STAMP) ## break workers, brokers, Redis and input in mid-stream, and print what was lost or doubled (an hour to an hour and a half)
	$(BIN)/python -m pytest tests/faults --faults full $(ARGS)

fuzz: $(STAMP) ## send RECORDS=1000000 in batches of every codec, some damaged, some exploding, from SEED=0 (about half an hour)
	$(BIN)/python -m tests.fuzz.million --records $(or $(RECORDS),1000000) --seed $(or $(SEED),0)

bench: $(STAMP) ## measure throughput and latency against other stream processors (BENCH_ARGS="--quick"; 30 to 90 minutes)
	$(BIN)/python -m bench $(BENCH_ARGS)

lint: $(STAMP) ## ruff, strict mypy, layers of imports, exported schemas up to date, the site of the documents, and clippy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(CODE)
	$(BIN)/lint-imports --no-cache
	$(MAKE) --no-print-directory schemas-check
	$(MAKE) --no-print-directory docs
	$(MAKE) --no-print-directory lint-kernel

lint-kernel: ## rustfmt and clippy on the compiled core, where they are installed
	@if cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1; then \
	cd kernel && cargo fmt --check && cargo clippy --quiet --locked --all-targets; \
	else echo "kernel: not linted; there is no cargo with rustfmt and clippy here"; fi

docs: $(STAMP) ## build the site of the documents into site/, strictly
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: $(STAMP) ## put the code into its format
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

schemas: $(STAMP) ## write schemas/json and schemas/asyncapi.yaml anew from the models
	$(BIN)/ebbtide schemas export schemas

schemas-check: $(STAMP) ## fail if schemas/json or schemas/asyncapi.yaml differ from the models
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && \
	$(BIN)/ebbtide schemas export "$$fresh" >/dev/null && \
	diff -r "$$fresh/json" schemas/json && diff "$$fresh/asyncapi.yaml" schemas/asyncapi.yaml && \
	echo "schemas: up to date" || { echo "schemas: stale; run: make schemas" >&2; exit 1; }

up: .env ## start Kafka, Redis, the topics and the worker in Docker, and wait until they are healthy
	docker compose up --build --detach --wait kafka redis worker

observe: .env ## start Prometheus and Grafana beside what `make up` started: http://localhost:3000
	docker compose --profile observe up --detach --wait prometheus grafana

down: .env ## stop what `make up` and `make observe` started; its data stay (docker compose down --volumes drops them)
	docker compose --profile observe down

.env: # the erasure key of what `make up` starts, which hides the ids of erased customers; it is kept
	@umask 077 && printf 'EBBTIDE_ERASURE_KEY=%s\n' "$$($(PYTHON) -c 'import secrets; print(secrets.token_hex(16))')" > $@

lock: $(STAMP) ## renew the requirements*.lock files from pyproject.toml (UPGRADE=1 for newer versions)
	$(call compile,requirements-dev.lock,--extra dev --group build)
	$(call compile,requirements-demo.lock,--extra demo --group build --constraint requirements-dev.lock)
	$(call compile,requirements.lock,--extra worker --constraint requirements-dev.lock)

clean: ## remove .venv and all caches
	rm -rf $(VENV) .pytest_cache .hypothesis .mypy_cache .ruff_cache build dist *.egg-info

# One lock for every Python and platform, with hashes, and without a word on where the packages come from.
compile = $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --fork-strategy fewest \
	--generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet \
	$(if $(UPGRADE),--upgrade) $(2) --output-file $(1)

$(DEMO): requirements-demo.lock pyproject.toml kernel/Cargo.lock $(wildcard kernel/src/*.rs kernel/src/*/*.rs)
	@test -n "$(PYTHON)" || { echo "Ebbtide needs Python 3.11 or later; none was found on the PATH." >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
	echo "$(PYTHON) cannot make virtual environments. On Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(PIP) --require-hashes -r requirements-demo.lock
	$(PIP) --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m enrichment.kernel
	@touch $@

$(STAMP): $(DEMO) requirements-dev.lock
	$(PIP) --require-hashes -r requirements-dev.lock
	@touch $@

# Python compiles what it imports when it first does, which is a part of what is installed.
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
