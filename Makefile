# Every target makes the virtual environment it needs and installs into it; the second time there is nothing to install.
#   make test                      with python3
#   make test PYTHON=python3.13    with another interpreter, in an environment of its own (.venv-python3.13)
#   make test ARGS="-k ledger"     more arguments for pytest, or for `thinwire demo`

PYTHON ?= python3
VENV ?= $(if $(filter python3,$(PYTHON)),.venv,.venv-$(patsubst -%,%,$(subst /,-,$(PYTHON))))
PARITY_VENV ?= .venv-parity
ARGS ?=
WORKERS ?= 2

PIP_INSTALL = -m pip install -qq --disable-pip-version-check
SOURCES = $(wildcard src tests train eval configs)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.SUFFIXES:
.DELETE_ON_ERROR:
# Stamps are kept, though they are made on the way to others.
.PRECIOUS: %/.pip %/.ready %/.ready-test %/.ready-lint %/.ready-parity
.PHONY: help demo test thorough lint format parity clean

help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.ready ## read a long prompt on four virtual devices by several strategies; with an adapter; tell pictures apart
	$(VENV)/bin/thinwire demo $(ARGS)
	@echo "the same model with the adapter and codebooks of trained/smollm2-compact (7 MB), at a hundredth of the bits:"
	-$(VENV)/bin/thinwire compare --trained trained/smollm2-compact
	@echo "1,000 test pictures by the vision Transformer in trained/, on four virtual devices (fetched by apt-get):"
	-$(VENV)/bin/python -m eval.accuracy --trained trained/vit-fashion-mnist-g16 --images 1000

test: $(VENV)/.ready-test ## run the tests
	$(VENV)/bin/python -m pytest -n $(WORKERS) --ignore=tests/parity -m "not thorough and not weights" $(ARGS)

thorough: $(VENV)/.ready-test ## run what `test` leaves out: every codec with everything, more cases, the real checkpoint
	$(VENV)/bin/python -m pytest -n $(WORKERS) --ignore=tests/parity -m "thorough or weights" $(ARGS)

lint: $(VENV)/.ready-lint ## ruff check, ruff format --check, pyright
	$(VENV)/bin/ruff check $(SOURCES)
	$(VENV)/bin/ruff format --check $(SOURCES)
	$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python

format: $(VENV)/.ready-lint ## let ruff sort imports and format
	$(VENV)/bin/ruff check --fix $(SOURCES)
	$(VENV)/bin/ruff format $(SOURCES)

parity: $(PARITY_VENV)/.ready-parity ## compare logits with PyTorch and transformers (about 1 GB to install)
	$(PARITY_VENV)/bin/python -m pytest -n $(WORKERS) tests/parity $(ARGS)

clean: ## remove environments, caches and build folders
	rm -rf .venv .venv-* build dist src/*.egg-info .pytest_cache .ruff_cache .hypothesis
	find src tests train eval configs -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: an environment is ready as long as pyproject.toml is older than its stamp.
%/.pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "thinwire needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | head -n 1);" \
	       "name another interpreter: make $(firstword $(MAKECMDGOALS)) PYTHON=/path/to/python3.12" >&2; exit 1; }
	@echo "making $* with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear $*
	@$*/bin/python $(PIP_INSTALL) --upgrade "pip>=25.1"
	@touch $@

%/.ready: pyproject.toml | %/.pip
	@echo "installing thinwire into $*"
	@$*/bin/python $(PIP_INSTALL) --editable .
	@touch $@

%/.ready-test: pyproject.toml | %/.pip
	@echo "installing thinwire and what its tests need into $*"
	@$*/bin/python $(PIP_INSTALL) --editable . --group test
	@touch $@ $*/.ready

%/.ready-lint: pyproject.toml | %/.pip
	@echo "installing thinwire and its linters into $*"
	@$*/bin/python $(PIP_INSTALL) --editable . --group lint
	@touch $@ $*/.ready

%/.ready-parity: pyproject.toml | %/.pip
	@echo "installing thinwire, its tests and the pinned PyTorch and transformers into $*"
	@$*/bin/python $(PIP_INSTALL) --editable . --group test --group parity
	@touch $@ $*/.ready
