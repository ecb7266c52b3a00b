# Everything that people and CI run. A machine with Python 3.11+ and make is enough: the rest is installed into .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo demo-routing test check format lint types rooms fast slow torture compat embedders hostile clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml requirements/lock.txt
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or later is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements/lock.txt --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements/lock.txt --editable '.[demo]' --group dev
	@touch $@

demo: $(STAMP)  ## a real gateway over real models in this machine; ONCE=1 ends after the table
	$(BIN)/trivet demo $(if $(ONCE),--once --port 0)

demo-routing: $(STAMP)  ## 200 questions to three real models: cost against quality of every way to choose; half an hour
	$(BIN)/python -m bench.demo_routing

test: check slow  ## everything that CI runs

check: lint types rooms fast  ## the fast part: two minutes on two cores

format: $(STAMP)  ## put the code into its format
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

lint: $(STAMP)
	$(BIN)/ruff format --check
	$(BIN)/ruff check

types: $(STAMP)
	$(BIN)/mypy

rooms: $(STAMP)
	$(BIN)/lint-imports

fast: $(STAMP)
	$(BIN)/pytest -q -n 2 -m 'not slow'

slow: $(STAMP)
	$(BIN)/pytest -q -n 2 -m slow

torture: $(STAMP)  ## cut power, faults and kills at every file operation of the ledger, at full scale: some minutes
	TRIVET_TORTURE=20 $(BIN)/pytest -q -rA -n 2 tests/disk tests/test_torture.py tests/test_torture_live.py

compat: $(STAMP)  ## client libraries, each in an environment of its own, against a gateway; CLIENT=llm runs one
	$(BIN)/python -m tests.compat.run $(CLIENT)

embedders: $(STAMP)  ## embedders of sentence-transformers and fastembed, in an environment of their own (2 GB)
	$(BIN)/python -m tests.embed.run

hostile: $(STAMP)  ## ten thousand hostile requests, and those that schemathesis makes from /openapi.json
	$(BIN)/python -m tests.hostile.run --count 10000
	$(BIN)/python -m tests.hostile.contract

clean:  ## remove what was installed and built
	rm -rf $(VENV) bench/build tests/compat/build .mypy_cache .ruff_cache .hypothesis
