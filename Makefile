# rampipe: `make demo` and `make test` are all a newcomer needs; both install into .venv first.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests in so many processes of one thread each. Those that start Ray come first and stay in one of them.
PROCESSES ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(PROCESSES) --dist loadgroup --no-loadscope-reorder
STAMP := $(VENV)/.installed-$(shell cat constraints.txt pyproject.toml | sha256sum | cut -c1-12)

.DEFAULT_GOAL := help
.PHONY: help install demo test test-fast test-faults mutate soak check audit format lock clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(STAMP)  ## install the pinned versions into .venv

# torch first and by exact version: otherwise another package's range may pull a different build of several gigabytes.
$(STAMP): constraints.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "no $(PYTHON) found; pass PYTHON=/path/to/python3.11"; exit 2; }
	@echo "installing the pinned packages into $(VENV) (a few minutes the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -qq --disable-pip-version-check "torch==$$(sed -n 's/^torch==//p' constraints.txt)" -c constraints.txt
	@$(BIN)/pip install -qq --disable-pip-version-check -c constraints.txt -e '.[model,s3,dev]'
	@rm -f $(VENV)/.installed-*; touch $@

demo: install  ## built-in model and data: capture, rank, ablate, speed, report under runs/demo/
	@$(BIN)/python -m jobs.needles --out runs/demo/needles --split select
	@$(BIN)/python -m jobs.needles --out runs/demo/needles --split eval
	@$(BIN)/python -m jobs.pipeline --config jobs/configs/demo.toml

test: install  ## the whole test suite, in PROCESSES (default 2)
	$(PYTEST)

test-fast: install  ## without the tests that start Ray
	$(PYTEST) -m "not cluster and not faults"

test-faults: install  ## every fault and bad input, 10,000 scheduler seeds; writes docs/reliability.md
	$(BIN)/python -m pytest tests -m "fault or faults" --seeds=10000 --reliability-table=docs/reliability.md

mutate: install  ## take away each guard against loss: its test must fail
	$(BIN)/python -m tests.faults.mutations

soak: install  ## MINUTES (default 60) of random kills of actors, nodes and drivers
	$(BIN)/python -m tests.faults.soak --minutes $(or $(MINUTES),60)

check: install  ## lint, format, types, and security of the code and of the pinned packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/bandit --quiet --severity-level medium --configfile pyproject.toml --recursive rampipe jobs benchmarks
	@$(MAKE) --no-print-directory audit

audit: install  ## known vulnerabilities of the pinned packages; says so where the service cannot be reached
	$(BIN)/python -m tests.audit

format: install  ## rewrite files in the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment and all demo output
	rm -rf $(VENV) runs
