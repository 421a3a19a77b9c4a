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
FUZZ_SECONDS ?= 60
# More than cores: the tests wait for servers more than they compute.
TEST_WORKERS ?= 4
# Folders without a test for `make test`: to collect them takes each worker as long as to collect the others.
OTHER_SUITES := backup chaos e2e e2e_demo isolation monitoring nginx orthanc postgres scripts

# What commands are told, as in `make add-clinic CLINIC_NAME='Northside "A" $(x)'`. They reach the scripts by the
# environment, letter for letter: neither make nor a shell expands them. Only the command line counts, because
# many systems have a USERNAME, a NAME or an EMAIL of their own in the environment.
ARGUMENTS := CLINIC_ID CLINIC_NAME USERNAME EMAIL CLINIC ROLE NAME BACKUP_FILE IDENTITY SECRET INCLUDE_DICOM STOP WITH_CONFIG SERVICE DB ONLY QUICK YES
define take_argument
ifeq ($(origin $(1)),command line)
override export $(1) := $$(value $(1))
else
override export $(1) :=
endif
endef
$(foreach name,$(ARGUMENTS),$(eval $(call take_argument,$(name))))

# Another command for Docker Compose, as in DOCKER_COMPOSE=docker-compose.
DOCKER_COMPOSE ?= docker compose
export DOCKER_COMPOSE

.PHONY: help
help: ## Show this list
	@echo "clinicpacs: usage: make TARGET [NAME=value ...]"
	@awk -F ':.*## ' '/^# --- / { gsub(/^# --- | -+$$/, ""); group = $$0 } \
	  /^[a-z0-9-]+:.*## / { if (group) { printf "\n%s\n", group; group = "" } printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- Environments -----------------------------------------------------------------------------------

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

# --- The demo: everything on this machine, without any server ---------------------------------------

.PHONY: demo
demo: $(VENV)/.demo-installed ## Run it: DEMO_PORT= DATA_PATH= COOLDOWN_SECONDS= ARCHIVE=embedded|orthanc
	@DEMO_PORT=$(DEMO_PORT) DATA_PATH="$(DATA_PATH)" COOLDOWN_SECONDS=$(COOLDOWN_SECONDS) DEMO_ARCHIVE=$(ARCHIVE) exec $(BIN)/python -m demo

# --- Running the platform (first of all: ./scripts/setup.sh) ----------------------------------------

.PHONY: up down restart status logs logs-importer rotate upgrade
up: ## Start it, and wait until every service is healthy
	@scripts/up.sh

down: ## Stop it; nothing that it holds is lost
	@scripts/stack.sh down

restart: ## Restart all services, or one: SERVICE=gateway
	@scripts/stack.sh restart

status: ## Show services, certificate, backup, alerts, and what waits or failed at each clinic
	@scripts/status.sh

logs: ## Follow the logs of all services, or of one: SERVICE=gateway
	@scripts/stack.sh logs

logs-importer: ## Follow the importer's logs
	@scripts/stack.sh logs importer

rotate: ## Give services new passwords: SECRET=archive-password (or database-passwords, client-secrets); YES=1 does not ask
	@scripts/rotate.sh "$$SECRET"

upgrade: ## Bring it to the version that is checked out, after a backup: YES=1 does not ask
	@scripts/upgrade.sh

# --- Clinics and users ------------------------------------------------------------------------------

.PHONY: add-clinic deactivate-clinic add-user move-user remove-user
add-clinic: ## Add a clinic and its inbox: CLINIC_ID=northside CLINIC_NAME="Northside Clinic"
	@scripts/admin.sh add-clinic

deactivate-clinic: ## Stop serving a clinic; its studies stay: CLINIC_ID=northside
	@scripts/admin.sh deactivate-clinic

add-user: ## Add a user: USERNAME=nora EMAIL=nora@northside.example CLINIC=northside [ROLE=radiologist] [NAME="Nora Vale"]
	@scripts/admin.sh add-user

move-user: ## Move a user to another clinic, out of all others: USERNAME=nora CLINIC=southside
	@scripts/admin.sh move-user

remove-user: ## Remove a user: USERNAME=nora; YES=1 does not ask
	@scripts/admin.sh remove-user

# --- Backups ----------------------------------------------------------------------------------------

.PHONY: backup backup-list restore
backup: ## Back up databases and settings; INCLUDE_DICOM=1: images, too
	@scripts/stack.sh backup

backup-list: ## List the backups
	@scripts/stack.sh backup-list

restore: ## Restore a backup: BACKUP_FILE=backups/... [IDENTITY=FILE] [STOP=1] [WITH_CONFIG=1]; YES=1 does not ask
	@scripts/stack.sh restore

# --- Looking inside ---------------------------------------------------------------------------------

.PHONY: up-dev shell-orthanc shell-db
up-dev: ## Start it for work on the code: reloaded, Prometheus on 9090, Orthanc on 8042
	@scripts/up.sh --dev

shell-orthanc: ## A shell in the archive's container
	@scripts/stack.sh shell-orthanc

shell-db: ## psql in PostgreSQL's container: DB=catalog (or orthanc, keycloak)
	@scripts/stack.sh shell-db

# --- Checks -----------------------------------------------------------------------------------------

.PHONY: test
test: $(VENV)/.dev-installed ## Run the unit and integration tests
	@$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadgroup -m "not (long or config or keycloak or chaos or demo or e2e)" \
	  $(OTHER_SUITES:%=--ignore=tests/%) $(PYTEST_ARGS)

.PHONY: test-long
test-long: $(VENV)/.dev-installed ## Run those of them that take minutes: processes that are killed, samples that are made
	@$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadgroup -m long $(PYTEST_ARGS)

.PHONY: test-config
test-config: $(VENV)/.dev-installed ## Test the production's configuration files and scripts with real servers, without containers
	@$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadgroup -m config $(PYTEST_ARGS)

.PHONY: chaos
chaos: $(VENV)/.dev-installed ## Kill, starve and mislead the importer at length: CHAOS_SCALE=0.05 for a short one, ONLY=kills
	@$(BIN)/python -m pytest -m chaos -k "$${ONLY:-}" tests/chaos $(PYTEST_ARGS)

.PHONY: isolation
isolation: $(VENV)/.dev-installed ## Try to see a study that is not one's own: nginx, gateway and Orthanc, ISOLATION_SWEEP=20000 ISOLATION_SEED=1
	@$(BIN)/python -m pytest tests/isolation $(PYTEST_ARGS)

.PHONY: mutations
mutations: $(VENV)/.dev-installed ## Take out one check after the other and see which test notices, an hour: ONLY=gateway/access
	@$(BIN)/python -m tests.mutations --write $${ONLY:+"$$ONLY"}

.PHONY: fuzz
fuzz: $(VENV)/.dev-installed $(VENV)/.fuzz-installed ## Search for bytes that surprise the reader of dropped files: FUZZ_SECONDS=60
	@$(BIN)/python -W ignore tests/chaos/fuzz_header.py -max_total_time=$(FUZZ_SECONDS) -timeout=60 -rss_limit_mb=2048 -max_len=65536 -verbosity=0 -print_final_stats=1 -artifact_prefix=build/fuzz- build/fuzz

.PHONY: e2e-demo
e2e-demo: $(VENV)/.dev-installed ## Use the demo through a real browser; screenshots go to build/screenshots
	@scripts/chromium.sh
	@$(BIN)/python -m pytest -m demo tests/e2e_demo $(PYTEST_ARGS)

.PHONY: e2e
e2e: $(VENV)/.dev-installed ## Set the production stack up in containers and use it: ONLY=backup for one part, E2E_OFFLINE=1
	@tests/e2e/run.sh

.PHONY: bench
bench: $(VENV)/.bench-installed ## Measure against what else there is, an hour (ONLY="frames lists", QUICK=1)
	@[ -n "$(BENCH_DEBIAN)" ] || bench/servers/debian.sh
	@$(BIN)/python -m bench --only "$$ONLY" $${QUICK:+--quick}

.PHONY: lint
lint: $(VENV)/.dev-installed ## Check style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

.PHONY: sbom
sbom: $(VENV)/.dev-installed ## Write what the platform is made of to build/sbom.json (CycloneDX)
	@$(BIN)/python scripts/sbom.py build/sbom.json

.PHONY: format
format: $(VENV)/.dev-installed ## Lay the code out, and mend what can be mended
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: clean
clean: ## Remove what make has built; data stays
	@rm -rf $(VENV) build dist .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
