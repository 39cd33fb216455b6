# `make help` lists what there is. Every target does its own set-up.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin

.PHONY: help sweep test check slow site bench clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 10

sweep: $(VENV)/.installed  ## train the default grid on embedded scenes and write its report
	$(RUN)/python sweeps/priority_grid.py $(ARGS)

test: $(VENV)/.installed-test  ## run the fast tests
	$(RUN)/python -m pytest -W error -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(VENV)/.installed-test  ## lint, types, import rules
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy
	$(RUN)/lint-imports --no-logo

slow: $(VENV)/.installed-tools  ## run the tests that take minutes, and what exports to other tools
	$(RUN)/python -m pytest -W error -m slow $(ARGS)

site: $(VENV)/.installed-tools  ## build the documentation as a site, in site/
	NO_MKDOCS_2_WARNING=1 $(RUN)/python -m mkdocs build --strict $(ARGS)

bench: $(VENV)/.installed-test  ## measure speed; prints medians, asserts nothing
	$(RUN)/python -m tests.benchmarks $(ARGS)

clean:  ## remove the virtual environment and caches, never results
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Expected Python 3.11 or newer, got %d.%d. Set PYTHON=/path/to/python3." % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(RUN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(RUN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@ $(VENV)/.installed

$(VENV)/.installed-tools: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(RUN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,tools]'
	touch $@ $(VENV)/.installed-test $(VENV)/.installed
