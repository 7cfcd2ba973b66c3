# Everything here works from a fresh clone with Python 3.11 or newer; the first target makes .venv and installs into it.
#   make demo        set up, then paint lips on a portrait and write a before/after sheet
#   make test        lint, types and all fast tests
#   make test-long   the tests that train or work through large photographs
# On Linux pip may take the CUDA build of torch (several GB). Without an NVIDIA GPU, pass the option for CPU builds that PyTorch's
# installation page gives:  make demo PIP_FLAGS="..."

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
    $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
PIP_FLAGS ?=
# Two test processes with one thread each; idle OpenMP threads must not spin beside the other process.
TEST_ENV := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
WORKERS ?= 2
LINT := $(BIN)/ruff check . && $(BIN)/ruff format --check .
TYPES := $(BIN)/mypy

.PHONY: setup demo test test-long lint types clean

setup: $(VENV)/.installed

# The stamp keeps a second `make test` from installing again.
$(VENV)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "visagist needs Python 3.11 or newer: make PYTHON=/where/it/is setup" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV); torch is large, this takes minutes"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e ".[dev]"
	@touch $@

demo: setup
	$(BIN)/visagist demo

lint: setup
	$(LINT)

types: setup
	$(TYPES)

# All three run whatever the others say; pytest's summary comes last.
test: setup
	@wrong=""; \
	{ $(LINT); } || wrong="$$wrong lint"; \
	{ $(TYPES); } || wrong="$$wrong types"; \
	$(TEST_ENV) $(BIN)/python -m pytest -n $(WORKERS) || wrong="$$wrong tests"; \
	test -z "$$wrong" || { echo "failed:$$wrong" >&2; exit 1; }

test-long: setup
	$(TEST_ENV) $(BIN)/python -m pytest -n $(WORKERS) -m long

clean:
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
