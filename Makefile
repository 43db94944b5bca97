# The same few targets for people and CI. `make demo` is where to begin; `make` alone lists them.
# Needs: Python 3.11, 3.12 or 3.13, and make. Everything else is installed into .venv and the user's cache.

PYTHON ?= $(shell for each in python3 python3.13 python3.12 python3.11; do \
	$$each -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$each && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PACKAGES := feedback streams trainer serving k8s newsroom everloop
PYTEST ?= $(BIN)/python -m pytest
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install demo check format test test-k8s bench chaos docs clean

help:  ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*  ## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

install: $(STAMP)  ## create .venv and install everything that requirements.lock pins

$(STAMP): requirements.lock pyproject.toml
	@if [ -z "$(PYTHON)" ]; then \
		echo "everloop needs Python 3.11, 3.12 or 3.13, found: $$(python3 --version 2>&1 || echo none)." >&2; \
		echo "Install one (Debian, Ubuntu: apt-get install python3 python3-venv) or name it: make PYTHON=/path/to/python3.11" >&2; \
		exit 1; fi
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) has no venv module (Debian, Ubuntu: apt-get install python3-venv)." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: install  ## run the whole loop on a real log and write report.html
	$(BIN)/everloop demo $(ARGS)

check: install  ## lint, format, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict $(foreach package,$(PACKAGES),-p $(package)) -p tests
	$(BIN)/lint-imports

format: install  ## rewrite the sources as `check` wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: install  ## the whole suite, against real parts
	$(PYTEST) -m "not slow and not k8s" $(ARGS)

test-k8s: install  ## what needs a Kubernetes API server or promtool, which Go compiles once (ten minutes)
	$(PYTEST) -m k8s $(ARGS)

bench: install  ## measure; all benches, or ARGS="NAME --json"
	$(BIN)/everloop bench $(ARGS)

chaos: install  ## the minutes-long tests that kill parts at random
	$(PYTEST) -m slow $(ARGS)

docs: install  ## write the generated pages of docs/ anew
	$(BIN)/everloop docs

clean:  ## remove .venv and the tools' caches; the data folder and the user's cache stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build *.egg-info
