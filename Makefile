# One verb a task, the same for people and CI. Run inside a virtual environment.
.PHONY: install check test test-all bench schema

install:  ## everything a developer needs
	pip install -c constraints.txt -e '.[dev]'

check:  ## style, types, import direction
	ruff check .
	ruff format --check .
	mypy
	mypy docs/examples/numpy_backend/tests
	lint-imports

test:  ## the tests that run in minutes
	python -m pytest

test-all:  ## the slow ones too
	python -m pytest -m 'not gpu'

bench:  ## the table in the README, made again
	python -m benchmarks

schema:  ## the JSON Schema and the reference of hardware files, made again from the models
	python -m dioe.hardware.reference
