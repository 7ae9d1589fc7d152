# Everything a developer or a newcomer calls. `make` alone lists it.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
EXTRAS := worker,embedded,dev
# Most of the 16,000 modules are never imported: in CI, Python compiles those that are when it meets them.
COMPILE := $(if $(CI),--no-compile)
.DEFAULT_GOAL := help

.PHONY: help
help: ## list what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1mmake %-13s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: setup ## one prompt through the whole service: picture, webhook, timeline; then all is stopped
	@$(BIN)/darkroom demo

.PHONY: test
test: setup ## every test but the slow ones, in up to four processes
	@$(BIN)/python -m pytest -m "not slow" --numprocesses auto --maxprocesses 4 --dist loadfile $(PYTEST)

.PHONY: test-slow
test-slow: setup ## the tests that need minutes
	@$(BIN)/python -m pytest -m slow $(PYTEST)

.PHONY: up
up: setup ## run everything here until Ctrl-C (settings: environment, or a file .env)
	@set -a; if [ -f .env ]; then . ./.env; fi; set +a; exec $(BIN)/darkroom up $(UP)

.PHONY: setup
setup: $(READY) ## create .venv with pinned dependencies; the others do it by themselves

# The first Python that is new enough and can make a virtual environment.
$(READY): pyproject.toml deploy/constraints.txt
	@for python in $(PYTHON) python3 python3.12 python3.11 python3.13 python3.14; do \
	    if $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        found=$$python; break; \
	    fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "Darkroom needs Python 3.11 or newer with venv and ensurepip (Debian: python3-venv)." >&2; exit 1; \
	fi; \
	echo "Setting up $(VENV) with $$($$found --version): some minutes, once."; \
	$$found -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(COMPILE) \
	    --constraint deploy/constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

.PHONY: lint
lint: setup ## ruff, the import rules, the compose file's schema
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

.PHONY: types
types: setup ## mypy, strict
	@$(BIN)/mypy

.PHONY: docs
docs: setup ## write the pages of docs/ that are made from the code
	@$(BIN)/python -m tests.reference

.PHONY: format
format: setup ## put the code into its form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: bench
bench: setup ## what the queue costs, beside the bare pipeline
	@$(BIN)/python -m tests.benchmarks.overhead

.PHONY: chaos
chaos: setup ## kill everything while clients submit; then nothing is lost, doubled or wrong (JOBS=1000 MODEL=stub)
	@$(BIN)/python -m tests.benchmarks.chaos --jobs $(or $(JOBS),1000) --model $(or $(MODEL),stub) $(CHAOS)

.PHONY: simulate
simulate: setup ## the queue alone: crashing workers drain 800 jobs, beside the ideal; fairness beside 10,000 jobs of one account
	@$(BIN)/python -m tests.benchmarks.simulate $(if $(JOBS),--jobs $(JOBS)) $(SIMULATE)
	@$(BIN)/python -m tests.benchmarks.fairness

.PHONY: bench-million
bench-million: setup ## what submitting and claiming cost with a million jobs waiting (needs 2 GB of memory)
	@$(BIN)/python -m tests.benchmarks.million

.PHONY: ci
ci: ## what runs before a merge
	@.ci/run

.PHONY: pin
pin: setup ## write what is installed to deploy/constraints.txt
	@$(BIN)/python -m pip freeze --exclude-editable | sed -E 's/\+[a-z0-9.]+$$//' > deploy/constraints.new
	@mv deploy/constraints.new deploy/constraints.txt
	@touch $(READY)

.PHONY: clean
clean: ## remove .venv and every cache; data directories stay
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .grimp_cache build dist *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
