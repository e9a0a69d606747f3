# make run     set everything up, then the main job: questions in, reports/pocket/index.html out
# make test    set up what is missing and run the tests, two files at a time (WORKERS=0: one after another)
# make setup   only the environment (.venv);  make check  format, lint, types
# make lab     JupyterLab, opened at notebooks/quick_start.ipynb;  make lab FLAGS="--port 9999 --no-browser"
# make test-browser  JupyterLab and the report in a real browser (Chromium; not part of make test);
#                    make test-browser ALL=1  also runs every assignment and how-to notebook there
# make pocket  train the pocket pool again from seeds, into data/pocket (about an hour on two cores)
# make assignments   students' versions of the assignments (docs/classroom.md)
# make clean   remove the environment and the tools' caches; generations and reports are kept
#
# ENGINE=gpu        vLLM for NVIDIA GPUs in place of vLLM for the CPU
# PYTHON=...        the Python to use: 3.11, 3.12 or 3.13 (3.11 or 3.12 for ENGINE=gpu). Without it the first
#                   of these on the PATH is taken; where there is none, uv brings 3.12 if uv is installed
# FLAGS=...         options of `make lab` for JupyterLab; they come last, so they win
# TORCH_INDEX=...   where pip finds the CPU build of torch (PyTorch's own wheel index), if not by itself
SHELL := bash
ENGINE ?= cpu
TORCH_INDEX ?=
FLAGS ?=
ALL ?=
WORKERS ?= 2
# No build of flashinfer's cuda-python, which vLLM for GPUs needs, is for Python 3.13.
PYTHONS := 3.11 3.12$(if $(filter cpu,$(ENGINE)), 3.13)
WANTED_cpu := 3.11, 3.12 or 3.13
WANTED_gpu := 3.11 or 3.12
FITS := -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] not in sys.argv)' $(PYTHONS)
PYTHON ?= $(shell for p in $(PYTHONS:%=python%) python3 python; do \
	$$p $(FITS) 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
READY := .venv/.ready-$(ENGINE)

ifeq ($(filter $(ENGINE),cpu gpu),)
$(error ENGINE must be cpu or gpu, not "$(ENGINE)")
endif

.PHONY: run test test-browser setup check lab pocket assignments bench bench-gpu clean
.DEFAULT_GOAL := run

run: setup
	@$(BIN)/python -m skillmoe_lib run chain

test: setup
	@$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadscope --no-loadscope-reorder

test-browser: setup
	@$(BIN)/python -m pytest tests/browser -s $(if $(ALL),,--ignore=tests/browser/test_notebooks_open.py)

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# In a container people are root, which Jupyter refuses unless told otherwise.
lab: setup
	@$(BIN)/python -m jupyter lab --ServerApp.root_dir="$(CURDIR)" --ServerApp.allow_root=True \
	  --LabApp.default_url=/lab/tree/notebooks/quick_start.ipynb $(FLAGS)

pocket: setup
	@$(BIN)/python -m skillmoe_lib.pocket

assignments: setup
	@$(BIN)/python -m skillmoe_lib assignments build

# Ratios of things measured side by side, on the device that is here; FLAGS go to the first.
bench: setup
	@$(BIN)/python benchmarks/throughput.py $(FLAGS)
	@$(BIN)/python benchmarks/scale.py

# On a machine with an NVIDIA GPU: ENGINE=gpu make bench-gpu (docs/gpu.md).
bench-gpu: setup
	@$(BIN)/python -m benchmarks.gpu $(FLAGS)

setup: $(READY)

# The stamp is written last, so a set-up that was interrupted starts from an empty environment; so does a
# change of engine, since both engines install the same files. A changed lock updates what is there.
$(READY): requirements/$(ENGINE).txt requirements/compiled.txt pyproject.toml
	@set -euo pipefail; \
	if [ ! -e $@ ]; then \
	  python="$(PYTHON)"; \
	  rm -rf .venv; \
	  if [ -z "$$python" ] && command -v uv >/dev/null; then \
	    echo '[0/4] Python 3.12, brought by uv'; \
	    uv python install --quiet 3.12 && python="$$(uv python find --no-project 3.12)" || \
	      { echo 'setup: uv could not bring Python 3.12 (see above)' >&2; exit 1; }; \
	  fi; \
	  "$${python:-false}" $(FITS) 2>/dev/null || \
	    { echo "setup: Python $(WANTED_$(ENGINE)) is needed, got $${python:-none}; name one with PYTHON=/path/to/python, or install uv, which brings one" >&2; exit 1; }; \
	  "$$python" -m venv .venv || \
	    { echo "setup: $$python cannot make environments; install its venv module (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }; \
	fi; \
	$(BIN)/python requirements/install.py $(ENGINE) --torch-index "$(TORCH_INDEX)"; \
	touch $@

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
