# The commands of the README; CI calls them too.   PYTHON=/path/to/python3.11 chooses the interpreter.
.DEFAULT_GOAL := help
.PHONY: help setup demo test faults lint bench-transport chaos clean

BIN := .venv/bin

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

setup: ## prepare .venv: system packages, ROS 2 Jazzy and the rest from wheels, interfaces; seconds when nothing changed
	@PYTHON="$(PYTHON)" sh tools/setup/setup.sh

demo: setup ## a simulated Panda puts the red block in the plate, asked in words; leaves runs/latest
	@$(BIN)/stvla demo

test: setup ## all tests: pure ones on all cores, then those over ROS one after another
	@$(BIN)/python -m pytest -n logical --maxprocesses 8 --durations 30 $(PYTEST_ARGS)

faults: setup ## kill -9 of every node in turn while the arm moves (minutes; a part of it is in make test)
	@$(BIN)/python -m pytest -m faults test/system $(PYTEST_ARGS)

lint: setup ## ruff and mypy
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

bench-transport: setup ## latency of camera frames between two processes
	@$(BIN)/python -m benchmarks.transport

chaos: setup ## 100 random kill -9 in the midst of tasks: ends, standstill, the next goal (an hour; CHAOS_ARGS="--resume")
	@$(BIN)/python -m benchmarks.chaos $(CHAOS_ARGS)

clean: ## remove .venv and everything else that was made here, but not runs/
	rm -rf .venv build install log .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
