# From a bare clone, `make demo` and `make test` do everything: they create .venv, install the tested set of packages and run.
# What is installed is remembered in stamp files inside .venv, so a second call starts at once.
#
#   PYTHON=python3.12   the interpreter that creates .venv (3.11 or later)
#   PIP_ARGS="..."      further options of `pip install`
#   ARGS="..."          further options of the command that a target runs
#   JOBS=4              how many processes share the tests; each takes one core and about 2 GB

PYTHON   ?= python3
PIP_ARGS ?=
ARGS     ?=
JOBS     ?= 2
VENV     := .venv
BIN      := $(VENV)/bin
INSTALL   = $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt $(PIP_ARGS)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint slow bench bench-speed canvas docs install clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.installed ## erase a concept from the embedded model, measure it, write the report
	$(BIN)/expunge demo $(ARGS)

test: lint $(VENV)/.installed-browser ## style, types and the tests
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

lint: $(VENV)/.installed-test ## style and types alone
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

slow: $(VENV)/.installed-slow ## the tests that take longer, or need the extra quantize
	$(BIN)/python -m pytest -m slow $(ARGS)

bench: $(VENV)/.installed ## run the whole suite canvas (goes on where it stopped; ARGS=--dry-run for the price)
	$(BIN)/expunge bench canvas $(ARGS)

bench-speed: $(VENV)/.installed ## what a step costs beside the released loops and the bare passes (goes on where it stopped; under 30 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/speed.py $(ARGS)
	$(BIN)/python benchmarks/results.py

canvas: $(VENV)/.installed ## train the embedded model from nothing (hours on two cores; goes on where it was stopped)
	$(BIN)/python -m expunge.canvas.training.train $(ARGS)

docs: $(VENV)/.installed-docs ## the documentation, as web pages in site/
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict $(ARGS)

install: $(VENV)/.installed ## only create .venv and install

clean: ## remove what was built, and .venv
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# pip appears last when a virtual environment is made, so one that was interrupted is made again.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "expunge needs Python 3.11 or later: $(PYTHON) is `$(PYTHON) --version 2>&1`; give another, for example: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/pip
	$(INSTALL) -e .
	@touch $@

# An extra brings the package itself along, so that one install serves both stamps.
$(VENV)/.installed-test: pyproject.toml constraints.txt | $(BIN)/pip
	$(INSTALL) -e '.[test]'
	@touch $(VENV)/.installed $@

# The system's Chromium, or else one that is downloaded. Without either, the tests of the studio are skipped and say why.
$(VENV)/.installed-browser: tests/web/browser.py $(VENV)/.installed-test
	$(BIN)/python tests/web/browser.py
	@touch $@

# diffusers imports bitsandbytes wherever it is installed, which takes seconds, so the usual tests do without.
$(VENV)/.installed-slow: pyproject.toml constraints.txt | $(BIN)/pip
	$(INSTALL) -e '.[test,quantize]'
	@touch $(VENV)/.installed $(VENV)/.installed-test $@

$(VENV)/.installed-docs: pyproject.toml constraints.txt | $(BIN)/pip
	$(INSTALL) -e '.[docs]'
	@touch $(VENV)/.installed $@
