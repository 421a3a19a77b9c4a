# clinicpacs: `make help` lists what there is to do.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

DEMO_PORT ?= 8800
DATA_PATH ?= data
COOLDOWN_SECONDS ?= 5
ARCHIVE ?= embedded
PYTEST_ARGS ?=
# More than cores: the tests wait for servers more than they compute.
TEST_WORKERS ?= 4
BENCH_ARGS ?=

.PHONY: help
help: ## Show this list
	@echo "clinicpacs: usage: make TARGET [NAME=value ...]"
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- environments -----------------------------------------------------------------------------------

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "clinicpacs needs Python 3.11 or newer; name one with PYTHON=, as in: make demo PYTHON=python3.12" >&2; exit 1; }
	@echo "Making a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV) \
	  || { rm -rf $(VENV); echo "Python's venv module is needed (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }

# One stamp for each set of requirements; a changed pin installs again, anything else does not.
$(VENV)/.%-installed: requirements-%.txt pyproject.toml | $(BIN)/python
	@echo "Installing the pinned requirements ($*)"
	@$(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r $<
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: requirements
requirements: ## Pin the requirements anew (UPGRADE=--upgrade takes the newest)
	@scripts/requirements.sh $(UPGRADE)

# --- use --------------------------------------------------------------------------------------------

.PHONY: demo
demo: $(VENV)/.demo-installed ## Run the whole platform on this machine: DEMO_PORT= DATA_PATH= COOLDOWN_SECONDS= ARCHIVE=embedded|orthanc
	@DEMO_PORT=$(DEMO_PORT) DATA_PATH="$(DATA_PATH)" COOLDOWN_SECONDS=$(COOLDOWN_SECONDS) DEMO_ARCHIVE=$(ARCHIVE) exec $(BIN)/python -m demo

# --- checks -----------------------------------------------------------------------------------------

.PHONY: test
test: $(VENV)/.dev-installed ## Run the unit and integration tests
	@$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadgroup -m "not demo" $(PYTEST_ARGS)

.PHONY: e2e-demo
e2e-demo: $(VENV)/.dev-installed ## Use the demo through a real browser; screenshots go to build/screenshots
	@scripts/chromium.sh
	@$(BIN)/python -m pytest -m demo tests/e2e_demo $(PYTEST_ARGS)

.PHONY: bench
bench: $(VENV)/.dev-installed ## Measure importing and the study list: BENCH_ARGS="--only import --files 1000"
	@$(BIN)/python -m bench $(BENCH_ARGS)

.PHONY: lint
lint: $(VENV)/.dev-installed ## Check style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

.PHONY: format
format: $(VENV)/.dev-installed ## Lay the code out, and mend what can be mended
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: clean
clean: ## Remove what make has built; data stays
	@rm -rf $(VENV) build dist .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
