# make setup   the virtual environment, once          make test   lint and tests
# make demo    the whole thing on a synthetic scene    make lint   ruff alone
#
# PYTHON=python3.12 chooses the interpreter (3.10 or later), VENV=/path another environment.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= results/demo

.PHONY: setup test lint demo clean
.DEFAULT_GOAL := test

# An environment that exists is used as it is, and renewed when the requirements change.
$(VENV)/.installed: pyproject.toml requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 10) else f"Python {v[0]}.{v[1]} is too old: 3.10 or later is needed. Choose one: make PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): PyTorch is large, this takes some minutes the first time."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --requirement requirements-dev.txt
	@touch $@

setup: $(VENV)/.installed

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

test: lint
	$(BIN)/python -m pytest

demo: setup
	$(BIN)/python -m data.synthetic $(DEMO)/dataset --train 0 --test 6
	$(BIN)/python test.py --data_path $(DEMO)/dataset --features original --save_dir $(DEMO)/original
	$(BIN)/python test.py --data_path $(DEMO)/dataset --features untrained --backbone random --save_dir $(DEMO)/untrained

clean:
	rm -rf $(VENV) results/demo .pytest_cache .ruff_cache
