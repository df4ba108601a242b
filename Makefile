# Works with GNU make ≥ 3.81 (macOS ships that one). Each line of `make help` says whether CI runs the target.
.DEFAULT_GOAL := help
SHELL := /bin/bash

# Images often forbid Python to keep what it has compiled. Each process would compile the whole project again then: five times
# the CPU of a start.
export PYTHONDONTWRITEBYTECODE :=

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --no-input
ROOMS := schemas core transport integrations agents app
PYTEST_ARGS ?=
RUN_ARGS ?=
BENCH_ARGS ?=
BACKTEST_ARGS ?=
VERIFY_ARGS ?=
SIM_ARGS ?=
CHAOS_ARGS ?=
FUZZ_ARGS ?=
ORACLE_ARGS ?=
DRILL_ARGS ?=
# Four processes on two cores: half of the tests wait most of their time (21 min with three, 18 with four and shorter waits). A file's tests stay together (they
# share fixtures), in the order of the tree, which begins with the longest. PYTEST_ARGS="-n 0": one process.
BESIDE := -n 4 --dist loadfile --no-loadscope-reorder
# Files beyond this many lines are named by `make check`: split by idea while it is still easy.
LONG := 400

.PHONY: help setup run test check types style bench bench-rules backtest oracle kill-runs generate verify sim chaos coverage drill fuzz long audit lock clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The environment in two layers, each from a hashed lock, each with a stamp: a second call does nothing.
$(VENV)/bin/python:
	@python=$$(.ci/python) && echo "making $(VENV) with $$python" && "$$python" -m venv $(VENV)

$(VENV)/.runtime: requirements.lock pyproject.toml | $(VENV)/bin/python
	@echo "installing what runs (requirements.lock)"
	@.ci/install $(VENV) requirements.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@

# Compiled once; a start compiles what has changed since.
$(VENV)/.kernels: $(wildcard core/kernels/*.py) $(VENV)/.runtime
	@$(PY) -m app.compile
	@touch $@

# What a broker learns in half a minute of work, kept: it starts in half the time. One of your own (UPTAKE_KAFKA) needs none.
$(VENV)/.broker: $(wildcard app/broker/*.py) $(VENV)/.runtime
	@$(PY) -m app.broker.warm
	@touch $@

# Each of the two takes one core.
$(VENV)/.ready: $(wildcard core/kernels/*.py app/broker/*.py) $(VENV)/.runtime
	@$(MAKE) --no-print-directory -j 2 $(VENV)/.kernels $(VENV)/.broker
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.runtime $(VENV)/.ready
	@echo "installing what checks and measures (requirements-dev.lock)"
	@.ci/install $(VENV) requirements-dev.lock
	@touch $@

setup: $(VENV)/.dev ## the environment, for work on the project (CI: yes)

run: $(VENV)/.runtime $(VENV)/.ready ## a broker, all roles, the gateway, data and a live view; needs Python only
	@exec $(VENV)/bin/uptake up $(RUN_ARGS)

check: $(VENV)/.dev ## style, types, import contracts, generated files (CI: yes)
	@$(MAKE) --no-print-directory -j 2 types style

types: $(VENV)/.dev ## what `make check` says of types (CI: yes, in check)
	$(VENV)/bin/mypy $(addprefix -p ,$(ROOMS))

style: $(VENV)/.dev ## the rest of `make check` (CI: yes, in check)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports
	$(PY) -m app.generate --check
	$(PY) grafana/generate.py --check
	$(PY) bench/table.py --check
	@find $(ROOMS) tests bench grafana -name '*.py' -not -path '*/generated/*' -exec wc -l {} + \
	  | awk '$$2 != "total" && $$1 > $(LONG) {print "warning: " $$2 " has " $$1 " lines; split it by idea"}'

test: ## everything CI runs, with real servers; installs what it needs (CI: yes, this is it)
	@.ci/system & $(MAKE) --no-print-directory $(VENV)/.dev && wait && $(MAKE) --no-print-directory check
	$(PY) -m pytest -m "not long" $(BESIDE) $(PYTEST_ARGS)

generate: $(VENV)/.dev ## schemas, API descriptions, dashboards, tables in the docs (CI: compares)
	$(PY) -m app.generate
	$(PY) grafana/generate.py
	$(PY) bench/table.py

bench: $(VENV)/.dev ## the figures of docs/performance.md, ≤ 30 min; BENCH_ARGS=--quick ≤ 3 min
	$(PY) -m bench $(BENCH_ARGS)

bench-rules: $(VENV)/.dev ## cost of 10,000 rules, steps/s, a million parked runs killed and restored; BENCH_ARGS=--quick ≤ 2 min
	$(PY) -m bench --only rules runs $(BENCH_ARGS)

backtest: $(VENV)/.dev ## how long a backtest of 30 days and 10,000,000 events takes; BACKTEST_ARGS="--events 1000000 --days 3 --again"
	$(PY) -m bench.backtest $(BACKTEST_ARGS)

oracle: $(VENV)/.dev ## 1,000 generated workflows × 1,000 subjects against an independent interpreter, ≤ 30 min; ORACLE_ARGS="--seed 7 --workflows 1"
	$(PY) -m tests.workflows $(ORACLE_ARGS)

kill-runs: $(VENV)/.dev ## kill -9 in the middle of 10,000 running workflows changes nothing in the commands, some 5 min
	$(PY) -m pytest -n 0 -m long tests/agents/test_orchestrate_flow.py

verify: $(VENV)/.dev ## 5,000,000 events, with and without ten kill -9, against an independent fold
	@.ci/with-broker $(VENV)/bin/uptake verify $(VERIFY_ARGS)
	@.ci/with-broker $(VENV)/bin/uptake verify --kills 10 $(VERIFY_ARGS)

sim: $(VENV)/.dev ## 10,000 seeds of the transport on a simulated Kafka, ≤ 20 min; SIM_ARGS="--seed N" again
	$(PY) -m tests.sim --seeds 10000 --processes 2 $(SIM_ARGS)

chaos: $(VENV)/.dev ## three brokers, 30 minutes of faults, 20 aimed kill -9; the report is docs/chaos.md
	$(VENV)/bin/uptake chaos --report docs/chaos.md $(CHAOS_ARGS)
	$(VENV)/bin/uptake chaos --brokers 1 --kills 20 --rate 20000 --meter 2 --decide 2 --deliver 1 --project 0 --partitions 4 \
	  --report docs/chaos.md $(CHAOS_ARGS)

coverage: $(VENV)/.dev ## every automation fired and arrived, computed from what was observed
	@.ci/with-broker $(VENV)/bin/uptake coverage --json

drill: $(VENV)/.dev ## loses everything on purpose: backup, destruction, restore; prints RTO and RPO
	@.ci/with-broker $(VENV)/bin/uptake drill --write docs/verification.md $(DRILL_ARGS)

fuzz: $(VENV)/.dev ## 1,000,000 damaged inputs at every door, ≤ 20 min; FUZZ_ARGS="--seed 2 --part 0.1 meter" (CI: a slice of it)
	@.ci/with-broker $(PY) -m tests.fuzz $(FUZZ_ARGS)

long: $(VENV)/.dev ## the tests that `make test` leaves out: a live system beside its backtest, every row of coverage, 10,000 runs killed, new versions while runs wait
	$(PY) -m pytest -m long tests/acceptance tests/agents $(PYTEST_ARGS)

audit: $(VENV)/.dev ## the locks against the advisories in UPTAKE_ADVISORIES (OSV's export: zip, folder or file)
	@$(PY) -m app.audit

lock: $(VENV)/.dev ## new locks from pyproject.toml (universal, hashed; UPGRADE=1 for newer versions)
	@echo 'setuptools>=75  # builds the editable install' | $(VENV)/bin/uv pip compile pyproject.toml - -q --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade) -o requirements.lock
	@$(VENV)/bin/uv pip compile pyproject.toml --extra dev -c requirements.lock -q --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade) -o requirements-dev.lock

clean: ## removes the environment and caches, keeps data (.uptake)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
