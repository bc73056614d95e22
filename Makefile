# The two commands: `make up` does everything, `make test` proves it. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SLIPWAY := $(BIN)/slipway
# mkdocs-material advertises against MkDocs 2 at each build; MkDocs is held below 2 in pyproject.toml.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir build/site
ARGS ?=
JOBS ?= 2

# Python is started often here; without its cache each start compiles everything again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup up down plan status test test-unit test-quick lint docs bench soak lock wheels clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup: ## Install what slipway needs: a venv from requirements.lock, apt packages by name
	@PYTHON=$(PYTHON) VENV=$(VENV) ./infra/setup.sh

up: setup ## From this machine to a proved deployment
	@$(SLIPWAY) up $(ARGS)

plan: setup ## Say what `make up` would change
	@$(SLIPWAY) plan $(ARGS)

status: setup ## Say what runs now
	@$(SLIPWAY) status $(ARGS)

down: setup ## Remove every trace of the lab; caches and reports of runs stay
	@$(SLIPWAY) down $(ARGS)

lint: setup ## ruff, mypy --strict, ansible-lint, yamllint, the documentation
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/yamllint --strict .
	@cd playbooks && PATH="$(CURDIR)/$(BIN):$$PATH" $(CURDIR)/$(BIN)/ansible-lint --offline --strict -q
	@$(MKDOCS) --quiet # every warning an error

test-unit: setup ## The unit tests: no process, no sleep; seconds
	@$(BIN)/pytest -q tests/unit $(ARGS)

test-quick: setup ## Every test that needs no hosts: unit, integration, stacks, playbooks; minutes
	@$(BIN)/pytest -q -n $(JOBS) -m "not lab and not engine and not soak" $(ARGS)

# The quick ones, then labs beside each other, then what wants the machine to itself. pytest ends with 5 where ARGS
# leave none of a kind.
test: setup ## Every test that can run here, real hosts and a real cluster included
	@$(BIN)/pytest -n $(JOBS) -m "not lab and not engine and not soak" $(ARGS) || [ $$? -eq 5 ]
	@$(BIN)/pytest -n $(JOBS) -m "(lab or engine) and not alone and not soak" $(ARGS) || [ $$? -eq 5 ]
	@$(BIN)/pytest -m "alone and not soak" $(ARGS) || [ $$? -eq 5 ]

bench: setup ## Print the times of the budgets; nothing is asserted
	@$(BIN)/python -m tests.bench $(ARGS)

soak: setup ## The long tests: fuzzing, kills
	@$(BIN)/pytest -m soak $(ARGS)

docs: setup ## Build the documentation into build/site
	@$(MKDOCS)

wheels: setup ## Build the wheels of the four products into build/wheels
	@$(BIN)/pip wheel -q --no-deps --no-build-isolation --wheel-dir build/wheels . ./infra/slipway_client ./infra/slipway_server ./stacks

# No lock may name the index its packages came from. What is locked stays so; ARGS=--upgrade to renew.
ROLE_LOCK := playbooks/collections/ansible_collections/slipway/serving/roles/model_server/files/requirements.lock
LOCK := $(BIN)/uv pip compile -q --generate-hashes --universal --no-emit-index-url --no-header $(ARGS)

lock: setup ## Make the hashed locks from the requirements; ARGS=--upgrade renews what is locked
	@$(LOCK) --python-version 3.11 --all-extras --group dev --no-emit-package slipway-client \
		--no-emit-package slipway-model-server --no-emit-package slipway-stacks -o requirements.lock \
		pyproject.toml infra/slipway_client/pyproject.toml infra/slipway_server/pyproject.toml stacks/pyproject.toml
	@cd infra/slipway/image && $(CURDIR)/$(LOCK) --no-deps --no-annotate --python-version 3.13 \
		-o requirements.lock requirements.in
	@cp infra/slipway/image/requirements.lock $(ROLE_LOCK) # the same versions, and those older Pythons need
	@cd infra/slipway/image && $(CURDIR)/$(LOCK) --no-deps --no-annotate --python-version 3.11 \
		-o $(CURDIR)/$(ROLE_LOCK) requirements.in

clean: ## `make down`, then slipway's cache, reports and the venv; refused while another lab uses the cache
	@if [ -x $(SLIPWAY) ]; then $(SLIPWAY) down && $(SLIPWAY) clean --reports; \
		else echo "no $(SLIPWAY): lab, cache and reports stay" >&2; fi
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .ansible build *.egg-info
