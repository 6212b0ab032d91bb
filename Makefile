# Two commands need no set-up: `make demo` and `make test`. Both build the environment first, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help env demo demo-full test test-all lint lock

help: ## What can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

env: $(STAMP) ## The environment in .venv, exactly as requirements.lock pins it

$(STAMP): requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "proseco needs Python 3.11 or newer; try make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	touch $@

demo: env ## Images to a table of AP: dvc repro at demo scale, some fifteen minutes on two cores
	dvc repro
	@cat tables/demo/results.md
	@echo && echo "Pictures:" && ls tables/demo/*.png

demo-full: env ## Every system and every table of the paper at demo scale, an hour and more; changes `run` in params.yaml
	python -m proseco select full
	python -m proseco cells --jobs 2
	dvc repro
	@echo && echo "Open tables/demo/index.html. Back to the small demo: git checkout params.yaml, then make demo"

# Files are shared out whole, for their tests share what they have made; the order is that of tests/conftest.py.
PYTEST := python -m pytest -q -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

test: env ## Tests, some minutes on all cores
	$(PYTEST)
	ruff check .
	ruff format --check .

test-all: env ## Also the slow ones and those that need a GPU
	$(PYTEST) -m ''

lint: env ## Style, mended where it can be
	ruff check --fix .
	ruff format .

lock: env ## Resolve requirements.in anew
	uv pip compile requirements.in --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o requirements.lock
