# Two commands do everything, set-up included: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup check test test-fast torture fuzz demo docs schema clean
.DELETE_ON_ERROR:

setup: $(STAMP)

# The compiled core is built by the installation, so its sources are one of the reasons for another one.
NATIVE := $(wildcard native/Cargo.* native/src/*.rs native/src/*/*.rs)
$(STAMP): pyproject.toml setup.py $(NATIVE)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11; name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "installing into $(VENV) (once; again when pyproject.toml or the compiled module changes) …" >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $(STAMP)

# In order of speed. Ignored by deptry: numpy, which networkx uses; pydantic_core, a part of pydantic; testcontainers,
# which is used where it is installed.
check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	@! command -v cargo >/dev/null || { cd native && cargo fmt --check && cargo clippy --quiet --release --locked -- -D warnings; }
	$(BIN)/deptry . --extend-exclude "tests|benchmarks" --optional-dependencies-dev-groups dev \
		--per-rule-ignores "DEP002=numpy,DEP003=pydantic_core,DEP004=testcontainers"

test: setup
	$(BIN)/python -m pytest -p no:cacheprovider -q

test-fast: setup
	$(BIN)/python -m pytest -p no:cacheprovider -q -m "not wire"

# kill -9 of workers at random moments on a cluster of two nodes, and a checker of its own (docs/guarantees.md).
KILLS ?= 10
REBALANCES ?= 0
EVENTS ?= 50000
SEED ?= 1
torture: setup
	PYTHONPATH=benchmarks $(BIN)/python -m torture --kills $(KILLS) --rebalances $(REBALANCES) --events $(EVENTS) --seed $(SEED)

# Coverage-guided, by atheris, which this installs; inputs that reach new code are kept in .cdp-stream/fuzz.
RECORDS ?= 200000
DEFINITIONS ?= 20000
CHANGES ?= 50000
FUZZ := PYTHONPATH=benchmarks $(BIN)/python -m fuzz
fuzz: setup
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check atheris
	$(FUZZ) records --count $(RECORDS) --corpus .cdp-stream/fuzz/records/corpus
	$(FUZZ) definitions --count $(DEFINITIONS) --corpus .cdp-stream/fuzz/definitions/corpus
	$(FUZZ) changes --count $(CHANGES) --corpus .cdp-stream/fuzz/changes/corpus

# Every benchmark on this machine, a table and summary.json into benchmarks/report (benchmarks/README.md).
bench: setup
	$(BIN)/python benchmarks/run_all.py

demo: setup
	$(BIN)/cdp-stream demo topologies/$(or $(TOPOLOGY),ecommerce)

docs schema: setup
	$(BIN)/cdp-stream schema --out topologies/topology.schema.json --docs docs/topology.md
	$(BIN)/cdp-stream schema --of tests --out topologies/tests.schema.json --docs docs/config-tests.md
	$(BIN)/cdp-stream metrics --out docs/metrics.md

# A local Kafka that was started from here is stopped before its folder goes.
clean:
	test ! -e .cdp-stream/kafka/pid || $(BIN)/cdp-stream kafka down
	rm -rf $(VENV) .cdp-stream .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist *.egg-info
