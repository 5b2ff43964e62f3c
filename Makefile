# Two commands in a fresh clone, with Python 3.11 or newer, git and make:
#   make demo    set up .venv and train on the built-in world
#   make test    install the test extras too, then linters, type checker and tests
# PYTHON=python3.12 make …   chooses the interpreter that .venv is made from.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
UV := uv

.DEFAULT_GOAL := help
.PHONY: help install demo test check lint types imports pytest slow docs format bench bench-table lock clean
.DELETE_ON_ERROR:

help:
	@echo "make demo    train fixed, joint and perspective beta on the built-in world (CPU, minutes)"
	@echo "make test    linters, type checker, layers, tests"
	@echo "make slow    the long forms of the tests: ranks, launchers, every rule resumed, thousands of broken inputs"
	@echo "make docs    the documentation as a site, in site/"
	@echo "make format  rewrite the code in its one format"
	@echo "make bench   speed and memory beside TRL on this machine's CPU (25 minutes on two cores); see bench/README.md"
	@echo "make lock    resolve requirements/*.txt again (needs uv)"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: Python must be at least 3.11, but $(PYTHON) is older instead; say PYTHON=python3.12 make ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch goes first and by name alone: which build comes (CPU or CUDA), with that build's own dependencies, is the choice of
# the machine's pip configuration. The hashed lock then finds it satisfied and leaves it as it is.
$(VENV)/torch.stamp: requirements/core.in | $(BIN)/python
	$(PIP) install "$$(grep '^torch==' requirements/core.in)"
	@touch $@

$(VENV)/core.stamp: requirements/core.txt $(VENV)/torch.stamp
	$(PIP) install --require-hashes -r requirements/core.txt
	@touch $@

# The package itself is editable, so that only pyproject.toml (entry points, metadata) makes it stale.
$(VENV)/package.stamp: pyproject.toml $(VENV)/core.stamp
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/test.stamp: requirements/test.txt $(VENV)/core.stamp
	$(PIP) install --require-hashes -r requirements/test.txt
	@touch $@

install: $(VENV)/package.stamp

demo: install
	$(BIN)/betahead demo

test: check pytest

check: lint types imports

lint: $(VENV)/package.stamp $(VENV)/test.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/package.stamp $(VENV)/test.stamp
	$(BIN)/basedpyright src

imports: $(VENV)/package.stamp $(VENV)/test.stamp
	$(BIN)/lint-imports

# Two workers of one thread each: what a test computes is small, so that a second thread would only wait.
WORKERS := 2

pytest: $(VENV)/package.stamp $(VENV)/test.stamp
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist worksteal

# One worker: launched ranks and soaks have processes of their own.
slow: $(VENV)/package.stamp $(VENV)/test.stamp
	OMP_NUM_THREADS=1 $(BIN)/pytest -m slow -n 1 $(SLOW)

# Broken links and missing pages are errors; nothing is fetched.
docs: $(VENV)/package.stamp $(VENV)/test.stamp
	$(BIN)/mkdocs build --strict

format: $(VENV)/test.stamp
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Public pairs lie in the folder that BETAHEAD_DATA names; without it those geometries are left out.
bench: $(VENV)/package.stamp $(VENV)/test.stamp
	$(BIN)/python -m bench $(BENCH)

# README's table is what the committed results say.
bench-table: $(VENV)/package.stamp $(VENV)/test.stamp
	$(BIN)/python -m bench.table bench/results/cpu.json --write README.md

# Hashes of every wheel, no index lines, no machine's paths; test.txt holds core.txt's pins and more.
COMPILE := $(UV) pip compile --config-file requirements/lock.toml --quiet --universal --python-version 3.11 \
  --generate-hashes --no-annotate --no-header

lock:
	$(COMPILE) pyproject.toml requirements/core.in --output-file requirements/core.txt
	$(COMPILE) pyproject.toml requirements/core.in --extra test --constraints requirements/core.txt \
	  --output-file requirements/test.txt

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis
