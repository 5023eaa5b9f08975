# make quickstart: install, train and answer, in a few minutes on two cores
# make test:       install, and run the tests

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: quickstart test lint clean

quickstart: $(INSTALLED)
	$(BIN)/python scripts/quickstart.py $(ARGUMENTS)

test: $(INSTALLED)
	$(BIN)/python -m pytest -q -n 2 --dist loadfile $(ARGUMENTS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@

clean:
	rm -rf .venv runs
