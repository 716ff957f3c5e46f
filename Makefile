# make demo and make test set everything up; nothing else has to be done first.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
DEMO ?= modiste-demo

.PHONY: setup demo test check docs lock clean site

setup: .venv/ready

.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Expected Python 3.11 or newer, but got %d.%d. Try make PYTHON=python3.11." % sys.version_info[:2])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements.lock --disable-pip-version-check
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable . --disable-pip-version-check
	touch $@

demo: setup
	$(BIN)/modiste demo -o $(DEMO)

test: setup
	$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_docs.py tests/test_imports.py

docs: setup
	$(BIN)/python docs/make_commands.py

# Newest versions that pyproject.toml allows, tried in an environment of their own, then written down.
lock:
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet '.[train,dev]'
	.venv-lock/bin/python -m pip freeze --exclude modiste | sed -E 's/\+cpu$$//' | grep -v -E '^(nvidia-|cuda-|triton)' > requirements.lock
	rm -rf .venv-lock

clean:
	rm -rf .venv .venv-lock $(DEMO) .pytest_cache .ruff_cache .mypy_cache

# Builds the documents into site/; a broken link or anchor is an error. Pages open without a server.
site: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable '.[docs]'
	$(BIN)/zensical build --clean --strict
