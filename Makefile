# Tidegate: the verbs of a developer. Run `make help`.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
EXTRAS := --extra operator --extra pipelines --extra train --extra spark --extra streaming
STAMP := .venv/.tidegate-setup
PYTEST := $(BIN)/python -m pytest

# What Python has compiled is kept, also where the machine says otherwise: processes that load torch start twice as fast.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(CURDIR)/build/compiled
# What mypy knows of the packages is good for every checkout: it compares their text.
export MYPY_CACHE_DIR := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tidegate/mypy

.PHONY: help setup demo demo-down test test-units test-cluster static ready cluster-parts check bench lint types layers crds dashboards format redis horovod

help: ## Show these verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP) ## Prepare .venv with every extra that this machine can have

$(STAMP): pyproject.toml uv.lock
	@test -x $(BIN)/python || { echo "Making .venv with $(PYTHON)"; $(PYTHON) -m venv .venv; }
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'
	@echo "Installing the locked packages into .venv (about a minute when nothing is cached)"
	@$(BIN)/uv sync --quiet --frozen --inexact $(EXTRAS)
	@touch $@

demo: ready ## The main job, end to end, on a real cluster on this machine
	@PYTHONPATH=dev $(BIN)/python -m tidegate_demo

demo-down: ## Remove the demo and the cluster; leaves nothing behind but caches
	@dev/cluster down

lint: setup ## ruff: style, bugs, security
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup ## mypy, strict
	$(BIN)/mypy

layers: setup ## import-linter: who may know whom
	$(BIN)/lint-imports

crds: setup ## Generate manifests/crds from the typed models
	$(BIN)/python -m tidegate_api.crds manifests/crds

dashboards: setup ## Generate manifests/monitoring/dashboards
	PYTHONPATH=dev $(BIN)/python -m tidegate_dashboards manifests/monitoring/dashboards

format: setup ## Format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: static ## The quick part: under a minute once .venv stands
	$(PYTEST) tests/unit/operators tests/unit/api -n 2 -q

test: ## Everything: lint, types, layers, unit, property, integration (real API server), e2e (real node, Triton)
	@$(MAKE) --no-print-directory --jobs=2 cluster-parts static redis horovod
	@$(MAKE) --no-print-directory --jobs=2 --keep-going test-units test-cluster

static: lint types layers
	$(BIN)/python -m tidegate_api.crds manifests/crds --check
	PYTHONPATH=dev $(BIN)/python -m tidegate_dashboards manifests/monitoring/dashboards --check

ready: # programs compile and images are built while .venv is filled
	@$(MAKE) --no-print-directory --jobs=2 setup cluster-parts

cluster-parts:
	@dev/cluster prepare

test-units: setup # without a cluster; they give way to the cluster's tests, which mostly wait, and speak when they end
	@mkdir -p build; failed=0; nice -n 15 $(PYTEST) tests/unit tests/property -n 2 --dist loadgroup --durations=15 >build/test-units.log 2>&1 || failed=$$?; \
	  echo; cat build/test-units.log; exit $$failed

test-cluster: setup # against a real API server, node, Triton, gateway, Prometheus, Redis and MLflow
	dev/with-cluster $(PYTEST) tests/e2e tests/integration -n 2 --dist loadfile --no-loadscope-reorder --durations=15

horovod: setup ## Build Horovod for the torch in .venv (once; then cached): an option of tidegate train
	@dev/horovod

redis: # the unit tests of the online store speak to a real one of their own
	@command -v redis-server >/dev/null || { echo "Installing redis-server"; \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server >/dev/null; }

bench: setup ## Benchmarks against peers, as tables
	@ls benchmarks/*.py >/dev/null 2>&1 || { echo "No benchmarks yet."; exit 1; }
	@for each in benchmarks/*.py; do $(BIN)/python $$each; done
