# The two commands of the README are `make demo` and `make test`: each makes its own virtual environment and installs
# what it needs. Other targets: gates, test-fast, docs, bench, clean. Any variable below can be given on the command
# line, for example `make demo DEMO_FLAGS=--small` or `make test PYTHON=python3.12`.

PYTHON     ?= python3
VENV_DEMO  ?= .venv-demo
VENV_TEST  ?= .venv-test
DEMO_OUT   ?= demo
DEMO_FLAGS ?=
BENCH_OUT  ?= runs/bench
# parallel test processes; each keeps to one thread, because more threads than cores make everything slower
JOBS       ?= 2

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-fast gates docs bench clean

PIP      := -m pip --disable-pip-version-check install -qq -c constraints.txt
SOURCES  := $(shell find src -type f -not -path '*/__pycache__/*') README.md LICENSE
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
PYTEST    = $(ONE_THREAD) $(VENV_TEST)/bin/python -m pytest -n $(JOBS)

help:
	@echo "make demo       toy universe, training, tests of the model, report: under 10 minutes on 2 cores"
	@echo "make test       all gates and all tests: under 20 minutes on 2 cores"
	@echo "make test-fast  the tests without the long ones"
	@echo "make gates      ruff, ruff format, mypy, import-linter"
	@echo "make docs       the documentation, into docs/_build/html"
	@echo "make bench      the benchmarks, into $(BENCH_OUT)"
	@echo "make clean      remove environments, caches and built pages (keeps $(DEMO_OUT)/ and runs/)"

# --- environments -------------------------------------------------------------------------------------------------
# The build back end is pinned like everything else, hence --no-build-isolation.

define new_venv
	@echo "[setup] new virtual environment $(1)"
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
	  || { echo "galineage needs Python 3.11 to 3.13, and $(PYTHON) is not: give one with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(1)
	@echo "[setup] installing the packages of constraints.txt (one or two minutes)"
	@$(1)/bin/python $(PIP) hatchling editables
endef

# The demo uses the package as a user gets it: a copy in site-packages, not the checkout.
$(VENV_DEMO)/.packages: pyproject.toml constraints.txt
	$(call new_venv,$(VENV_DEMO))
	@$(VENV_DEMO)/bin/python $(PIP) --no-build-isolation ".[images,viz]"
	@touch $@

$(VENV_DEMO)/.ready: $(VENV_DEMO)/.packages $(SOURCES)
	@$(VENV_DEMO)/bin/python $(PIP) --no-build-isolation --no-deps --force-reinstall .
	@touch $@

# The tests run on the checkout, so that doctests in src are collected once and a change needs no new install.
$(VENV_TEST)/.ready: pyproject.toml constraints.txt
	$(call new_venv,$(VENV_TEST))
	@$(VENV_TEST)/bin/python $(PIP) --no-build-isolation -e ".[train,test,docs]"
	@touch $@

# --- what a person runs -------------------------------------------------------------------------------------------

demo: $(VENV_DEMO)/.ready
	@echo "[demo] galineage demo --out $(DEMO_OUT) $(DEMO_FLAGS)"
	@$(VENV_DEMO)/bin/galineage demo --out $(DEMO_OUT) $(DEMO_FLAGS)
	@test -s $(DEMO_OUT)/report.html || { echo "the demo left no report in $(DEMO_OUT)" >&2; exit 1; }
	@echo "[demo] done. Open $(abspath $(DEMO_OUT))/report.html in a browser."

test: gates
	@echo "[test] all tests, long ones too"
	@$(PYTEST) --slow

test-fast: $(VENV_TEST)/.ready
	@$(PYTEST)

gates: $(VENV_TEST)/.ready
	@echo "[gate] ruff check";   $(VENV_TEST)/bin/ruff check -q .
	@echo "[gate] ruff format";  $(VENV_TEST)/bin/ruff format --check -q .
	@echo "[gate] mypy";         $(VENV_TEST)/bin/mypy --no-error-summary
	@echo "[gate] import-linter"; log=$$($(VENV_TEST)/bin/lint-imports --no-cache --no-logo 2>&1) \
	  || { echo "$$log"; exit 1; }

docs: $(VENV_TEST)/.ready
	@echo "[docs] warnings are errors"; rm -rf docs/api/generated
	@$(ONE_THREAD) $(VENV_TEST)/bin/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "[docs] done. Open $(abspath docs/_build/html/index.html) in a browser."

bench: $(VENV_TEST)/.ready
	@mkdir -p $(BENCH_OUT)
	@set -e; for script in benchmarks/*.py; do \
	  echo "[bench] $$script"; $(VENV_TEST)/bin/python "$$script" --out $(BENCH_OUT); done

clean:
	rm -rf .venv-demo .venv-test build dist docs/_build docs/api/generated docs/jupyter_execute
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find src tests docs benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
