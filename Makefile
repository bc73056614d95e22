# The two commands: `make up` does everything, `make test` proves it. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SLIPWAY := $(BIN)/slipway
ARGS ?=

# Python is started often here; without its cache each start compiles everything again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup up down plan status test test-quick lint bench soak clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup: ## Install what slipway needs: apt packages by name, a venv from requirements.lock
	@PYTHON=$(PYTHON) VENV=$(VENV) ./infra/setup.sh

up: setup ## From this machine to a proved deployment
	@$(SLIPWAY) up $(ARGS)

plan: setup ## Say what `make up` would change
	@$(SLIPWAY) plan $(ARGS)

status: setup ## Say what runs now
	@$(SLIPWAY) status $(ARGS)

down: setup ## Remove every trace of the lab; caches and reports of runs stay
	@$(SLIPWAY) down $(ARGS)

lint: setup ## ruff, mypy --strict, ansible-lint, yamllint
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@MYPYPATH=tests/stacks $(BIN)/mypy tests/stacks/test_engine.py # does not run where there is no pulumi
	@$(BIN)/yamllint --strict .
	@cd playbooks && PATH="$(CURDIR)/$(BIN):$$PATH" $(CURDIR)/$(BIN)/ansible-lint --offline --strict -q

test-quick: setup ## The tests that need no hosts, in seconds
	@$(BIN)/pytest -q -m "not lab and not engine and not soak" $(ARGS)

test: setup ## Every test that can run here, real hosts and a real cluster included
	@$(BIN)/pytest -m "not soak" $(ARGS)

bench: setup ## Print the times of the budgets; nothing is asserted
	@$(BIN)/python -m tests.bench $(ARGS)

soak: setup ## The long tests: fuzzing, kills
	@$(BIN)/pytest -m soak $(ARGS)

clean: ## `make down`, then caches, reports and the venv
	@if [ -x $(SLIPWAY) ]; then $(SLIPWAY) down; fi
	@rm -rf .slipway "$${SLIPWAY_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/slipway}" $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .ansible build *.egg-info
