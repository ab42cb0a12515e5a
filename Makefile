# Two commands do everything, set-up included: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup check test test-fast demo docs schema clean

setup: $(STAMP)

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $(STAMP)

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

test: setup
	$(BIN)/python -m pytest -p no:cacheprovider -q

test-fast: setup
	$(BIN)/python -m pytest -p no:cacheprovider -q -m "not wire"

demo: setup
	$(BIN)/cdp-stream demo topologies/ecommerce

docs schema: setup
	$(BIN)/cdp-stream schema --out topologies/topology.schema.json --docs docs/topology.md
	$(BIN)/cdp-stream metrics --out docs/metrics.md

clean:
	rm -rf $(VENV) .cdp-stream .pytest_cache .mypy_cache .ruff_cache
