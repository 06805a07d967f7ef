# The commands of the README; CI calls them too.   PYTHON=/path/to/python3.11 chooses the interpreter.
.DEFAULT_GOAL := help
.PHONY: help setup demo test faults lint docs web bench-transport chaos clean

BIN := .venv/bin
DOCS := .venv-docs

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

setup: ## prepare .venv: system packages, ROS 2 Jazzy and the rest from wheels, interfaces; seconds when nothing changed
	@PYTHON="$(PYTHON)" sh tools/setup/setup.sh

demo: setup ## a simulated Panda puts the red block in the plate, asked in words; leaves runs/latest
	@$(BIN)/stvla demo

test: setup ## all tests: pure ones on all cores, then those of the running stack one after another
	@$(BIN)/python -m pytest -n logical --maxprocesses 8 --durations 30 $(PYTEST_ARGS)

faults: setup ## kill -9 of every node in turn while the arm moves (minutes; a part of it is in make test)
	@$(BIN)/python -m pytest -m faults test/system $(PYTEST_ARGS)

lint: setup ## ruff and mypy
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

docs: $(DOCS)/done ## the site of docs/ in build/site, with an environment of its own; warnings are errors
	@NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/python -E -m mkdocs build
	@echo "build/site/index.html; with search: python3 -m http.server --directory build/site"

$(DOCS)/done: requirements/docs.txt
	@echo "docs: mkdocs-material from wheels (half a minute when new)"
	@rm -rf $(DOCS)
	@$(or $(PYTHON),python3) -m venv $(DOCS)
	@$(DOCS)/bin/python -E -m pip install --disable-pip-version-check --no-deps --only-binary :all: -r $< \
		> $(DOCS)/pip.log 2>&1 && $(DOCS)/bin/python -E -m pip check >> $(DOCS)/pip.log || { cat $(DOCS)/pip.log; exit 1; }
	@touch $@

web: ## the annotation tool's page from web/annotate, with its tests; needs Node 20 (the built page is in the repository)
	@cd web/annotate && npm ci --no-audit --no-fund && npm test && npm run build

bench-transport: setup ## latency of camera frames between two processes
	@$(BIN)/python -m benchmarks.transport

chaos: setup ## 100 random kill -9 in the midst of tasks: ends, standstill, the next goal (an hour; CHAOS_ARGS="--resume")
	@$(BIN)/python -m benchmarks.chaos $(CHAOS_ARGS)

clean: ## remove .venv and everything else that was made here, but not runs/
	rm -rf .venv $(DOCS) build install log .cache web/annotate/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
