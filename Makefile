# make quickstart: install, train and answer, in a few minutes on two cores
# make test:       install, and run the tests, but those of `make clients`
# make lint:       check style and types
# make clients:    install programs of others, such as TRL and ONNX, and run the tests with them
# make pages:      install Gradio and playwright, and run the tests of pages in Debian's chromium
# make docs:       build the site of docs/ and of the API into site/
# make wheel:      build sdist and wheel, and run a small quickstart from the wheel, outside of the repository

PYTHON ?= python3
BIN := .venv/bin
SMALL := --people 200 --held_out 50 --max_train_flops 2e11
INSTALLED := .venv/installed

.PHONY: quickstart test lint clients pages docs wheel clean

quickstart: $(INSTALLED)
	$(BIN)/python scripts/quickstart.py $(ARGUMENTS)

test: $(INSTALLED)
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --ignore tests/clients $(ARGUMENTS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clients: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[clients]"
	$(BIN)/python -m pytest -q -n 2 --dist loadfile tests/clients $(ARGUMENTS)

pages: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[pages]"
	$(BIN)/python -m pytest -q tests/pages $(ARGUMENTS)

wheel: $(INSTALLED)
	rm -rf dist
	$(BIN)/python -m build --outdir dist . > /dev/null
	$(BIN)/python -m pip install --quiet --no-deps --target dist/installed dist/*.whl
	cd dist && PYTHONPATH=installed ../$(BIN)/python -m birthgpt quickstart $(SMALL)

$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@

docs: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	$(BIN)/python -m mkdocs build --quiet --strict
	$(BIN)/python -m pytest -q tests/site $(ARGUMENTS)

clean:
	rm -rf .venv dist runs site
