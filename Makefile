# Two commands for everyone: `make demo` and `make test`. Nothing outside .venv is touched.
PYTHON ?= python3
BIN := .venv/bin
DEMO_ARGS ?=

.PHONY: install demo test check bench lock clean

install: .venv/.installed

.venv/.installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Trunkline needs Python 3.11 or newer; run: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

.venv/.dev: .venv/.installed requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	touch $@

demo: install  ## start the hub and the sandbox, call both services for real, stay up
	$(BIN)/trunkline demo $(DEMO_ARGS)

test: .venv/.dev  ## the whole suite, on SQLite and (when TRUNKLINE_TEST_POSTGRES is set) on PostgreSQL
	$(BIN)/python -m pytest

check: .venv/.dev  ## linters, types, import contracts
	$(BIN)/ruff format --check src tests bench
	$(BIN)/ruff check src tests bench
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/.dev  ## every figure of docs/performance.md, each beside its bare baseline
	$(BIN)/python -m bench

lock:  ## refresh both locks (needs uv on PATH)
	uv pip compile pyproject.toml --group build --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --python-version 3.11 -o requirements.lock
	uv pip compile pyproject.toml --group dev --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --python-version 3.11 -o requirements-dev.lock

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache
