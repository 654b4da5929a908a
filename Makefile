# The single door. `make` alone lists what there is.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What running needs, and what changing it needs besides.
RUNNING := $(VENV)/.installed
STAMP := $(VENV)/.installed-dev

.DEFAULT_GOAL := help
.PHONY: help install rehearse test lint types tests nbval crash kills mutants bench conformance notebooks lock lab clean

help:  ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(RUNNING)  ## Create .venv and install what running needs into it, by its lock

$(RUNNING): requirements.txt pyproject.toml
	$(call installed,requirements.txt)

$(STAMP): requirements-dev.txt pyproject.toml
	$(call installed,requirements-dev.txt)

define installed
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; name one with: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(1)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
endef

rehearse: $(RUNNING)  ## Run the demo incident from request to sealed folder on the local sandbox
	$(BIN)/manual-payout rehearse

test: lint types tests nbval  ## Lint, types and the whole test suite, notebooks included

lint: $(STAMP)
	$(BIN)/ruff check lib tests
	$(BIN)/ruff format --check lib tests
	$(BIN)/codespell lib tests docs README.md CHANGELOG.md Makefile

types: $(STAMP)
	$(BIN)/mypy

# Each process starts a PostgreSQL of its own; two are enough for two cores and gentle on more. By file, because the
# slow scenes are set once a file.
tests: $(STAMP)
	$(BIN)/pytest -n 2 --dist loadfile

# Each committed notebook is run again on the demo incident and compared with the outputs it carries.
nbval: $(STAMP)
	$(BIN)/python -m pytest -p tests.notebooks.nbval_scene --nbval --nbval-current-env --nbval-cell-timeout=120 \
		--nbval-sanitize-with tests/notebooks/sanitize.cfg runbooks

SEEDS ?= 20000
crash: $(STAMP)  ## Simulate SEEDS=20000 nights of crashes and faults around the transfer code and compare the books
	$(BIN)/python -m tests.crash.simulation --seeds $(SEEDS)

RUNS ?= 1000
DATABASE ?= sqlite
kills: $(STAMP)  ## Kill RUNS=1000 senders at random moments on DATABASE=sqlite or postgresql and compare the books
	$(BIN)/python -m tests.crash.kills --runs $(RUNS) --database $(DATABASE) --processes 2

MUTANTS ?= 200
mutants: $(STAMP)  ## Change the code of the money in MUTANTS=200 places, one at a time in a copy, and count what its tests notice
	$(BIN)/python -m tests.mutants --count $(MUTANTS)

TURNS ?= 7
bench: $(STAMP)  ## Measure TURNS=7 times what docs/performance.md states, each thing beside another, in turn
	$(BIN)/python -m tests.bench --turns $(TURNS)

conformance: $(STAMP)  ## Hold engine, provisioner and sandbox against other people's tests (needs the network)
	$(BIN)/python -m tests.conformance

notebooks: $(STAMP)  ## Run the committed notebooks on the demo incident and keep their outputs and digests
	$(BIN)/python -m tests.notebooks.refresh

lab: $(STAMP)  ## Open the notebooks in JupyterLab
	$(BIN)/jupyter lab runbooks

# The first is a part of the second, so that both pin one version of everything.
LOCKED := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --quiet
lock:  ## Recompute requirements.txt and requirements-dev.txt from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --all-extras $(LOCKED) -o requirements-dev.txt
	cp requirements-dev.txt requirements.txt
	uv pip compile pyproject.toml --extra build $(LOCKED) -o requirements.txt

clean:  ## Remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
