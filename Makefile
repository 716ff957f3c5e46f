# make demo and make test set everything up; nothing else has to be done first.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
DEMO ?= modiste-demo
WORKERS ?= 2
PYTEST := -m pytest --numprocesses $(WORKERS) --dist worksteal
BARE := $(addprefix tests/,test_bare_install.py test_labels.py test_files.py test_config.py data inputs inference runs storage)

.PHONY: setup demo test test-all test-bare check docs site lock wheels clean

setup: .venv/ready

# PyTorch has another build, with another hash, for each kind of GPU and for none, and those for a GPU bring
# libraries along: its file names its version alone, and pip takes the build that this machine is set up for.
.venv/ready: requirements.lock requirements-torch.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Expected Python 3.11 or newer, but got %d.%d. Try make PYTHON=python3.11." % sys.version_info[:2])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement requirements.lock --disable-pip-version-check
	$(BIN)/python -m pip install --quiet --requirement requirements-torch.lock --disable-pip-version-check
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable . --disable-pip-version-check
	touch $@

demo: setup
	$(BIN)/modiste demo -o $(DEMO)

test: setup
	$(BIN)/python $(PYTEST) -m "not slow"

test-all: setup
	$(BIN)/python $(PYTEST)

# What must work without the extra "train": from the wheel, in an environment of its own.
test-bare: setup
	rm -rf .venv-bare && $(PYTHON) -m venv .venv-bare
	$(BIN)/python -m hatchling build --target wheel --directory .venv-bare/wheel
	sed -nE 's/^([A-Za-z0-9_.-]+==[^ ;]+).*/\1/p' requirements.lock > .venv-bare/versions.txt
	.venv-bare/bin/python -m pip install --quiet --constraint .venv-bare/versions.txt --disable-pip-version-check .venv-bare/wheel/*.whl pytest pytest-xdist hypothesis
	.venv-bare/bin/python $(PYTEST) -m "not slow" $(BARE)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_docs.py tests/test_imports.py

docs: setup
	$(BIN)/python docs/make_commands.py

# Newest versions that pyproject.toml allows, for all systems and Pythons, each with the hashes of its files.
LOCKED := .venv-lock/bin/uv pip compile pyproject.toml --extra train --extra dev --universal --python-version 3.11 --no-header --no-annotate
lock:
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet uv
	$(LOCKED) --quiet --generate-hashes --output-file .venv-lock/all.txt
	awk '/^[a-z]/ {other = /^(torch==|triton==|cuda-|nvidia-)/} !other' .venv-lock/all.txt > requirements.lock
	awk '/^torch==/ {print $$1}' .venv-lock/all.txt > requirements-torch.lock
	rm -rf .venv-lock

# Each locked package has a wheel for each Python from 3.11 on and for each system.
wheels:
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet uv
	for python in 3.11 3.12 3.13 3.14; do for system in linux macos windows; do \
		MACOSX_DEPLOYMENT_TARGET=14.0 .venv-lock/bin/uv pip compile requirements.lock requirements-torch.lock --quiet --no-deps --only-binary :all: \
			--python-version $$python --python-platform $$system --output-file .venv-lock/wheels.txt \
			&& echo "Python $$python on $$system: $$(grep -c == .venv-lock/wheels.txt) wheels" || exit 1; \
	done; done
	rm -rf .venv-lock

clean:
	rm -rf .venv .venv-bare .venv-lock site $(DEMO) .pytest_cache .ruff_cache .mypy_cache

# Builds the documents into site/; a broken link or anchor is an error. Pages open without a server.
site: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable '.[docs]'
	$(BIN)/zensical build --clean --strict
