# make run     set everything up, then the main job: questions in, reports/pocket/index.html out
# make test    set up what is missing and run the tests
# make setup   only the environment (.venv);  make check  format, lint, types;  make lab  JupyterLab
# make pocket  train the pocket pool again from seeds, into data/pocket (about an hour on two cores)
# make clean   remove the environment and the tools' caches; generations and reports are kept
#
# ENGINE=gpu        vLLM for NVIDIA GPUs in place of vLLM for the CPU
# PYTHON=...        a Python 3.11, where neither python3.11 nor python3 is one
# TORCH_INDEX=...   where pip finds the CPU build of torch (PyTorch's own wheel index), if not by itself
SHELL := bash
ENGINE ?= cpu
TORCH_INDEX ?=
PYTHON ?= $(shell for p in python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
READY := .venv/.ready-$(ENGINE)

ifeq ($(filter $(ENGINE),cpu gpu),)
$(error ENGINE must be cpu or gpu, not "$(ENGINE)")
endif

.PHONY: run test setup check lab pocket clean
.DEFAULT_GOAL := run

run: setup
	@$(BIN)/python -m skillmoe_lib run chain

test: setup
	@$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

lab: setup
	@$(BIN)/python -m jupyter lab notebooks

pocket: setup
	@$(BIN)/python -m skillmoe_lib.pocket

setup: $(READY)

# The stamp is written last, so a set-up that was interrupted starts from an empty environment; so does a
# change of engine, since both engines install the same files. A changed lock updates what is there.
$(READY): requirements/$(ENGINE).txt requirements/compiled.txt pyproject.toml
	@set -euo pipefail; \
	if [ ! -e $@ ]; then \
	  python="$(PYTHON)"; \
	  "$${python:-false}" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || \
	    { echo 'setup: Python 3.11 is needed and neither python3.11 nor python3 is one; name one with PYTHON=/path/to/python3.11' >&2; exit 1; }; \
	  rm -rf .venv; \
	  "$$python" -m venv .venv || \
	    { echo "setup: $$python cannot make environments; install its venv module (Debian, Ubuntu: python3.11-venv)" >&2; exit 1; }; \
	fi; \
	$(BIN)/python requirements/install.py $(ENGINE) --torch-index "$(TORCH_INDEX)"; \
	touch $@

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
