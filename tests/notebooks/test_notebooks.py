"""The notebooks run from a new kernel in small, and are committed with small outputs of a whole run."""

import copy
import importlib.util
import re
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
SMALL = {
    "1_play": {"STEPS": 3, "BLOCK": 24, "BATCH": 2, "WIDTH": 16, "LAYERS": 1, "HEADS": 2},
    "2_from_the_assignment": {"FLOPS": 1e9, "FINETUNING_STEPS": 1},
    "3_attention": {"LENGTH": 16, "SAMPLES": 20},
    "4_ask_it": {"PEOPLE": 130, "HELD_OUT": 80, "FLOPS": 2e10, "FINETUNING_STEPS": 10, "INVENTED": 30},
}
LARGEST = 200_000
"""Bytes of a notebook."""

names = pytest.mark.parametrize("name", SMALL)


@pytest.fixture(scope="module")
def execute():
    """notebooks/execute.py, which is no module of the package."""
    spec = importlib.util.spec_from_file_location("execute_notebooks", FOLDER / "execute.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def test_every_notebook_is_tested(execute):
    assert [path.stem for path in execute.notebooks()] == list(SMALL)


@pytest.mark.slow
@names
def test_a_notebook_runs_in_small(name, execute, tmp_path):
    notebook = execute.execute(FOLDER / f"{name}.ipynb", SMALL[name], timeout=900)
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in shown)
    assert any(output.output_type == "stream" and output.name == "stdout" for output in shown)


@names
def test_a_committed_notebook_is_small_and_was_run_from_top_to_bottom(name):
    path, notebook = FOLDER / f"{name}.ipynb", read(name)
    nbformat.validate(notebook)
    assert path.stat().st_size < LARGEST
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert {output.output_type for output in outputs} <= {"stream", "display_data", "execute_result"}
    texts = "".join(output.get("text", "") for output in outputs)
    assert texts and not re.search(r"/(tmp|home|root|work)/|Traceback|Warning", texts)


@names
def test_a_notebook_opens_on_colab_and_installs_the_package_there(name, execute):
    head, install = read(name).cells[:2]
    assert f"]({execute.COLAB}" in head.source and "colab-badge.svg" in head.source
    assert install.source == read("1_play").cells[1].source
    assert "%pip install" in install.source and execute.REPOSITORY.search(install.source)


@names
def test_the_links_of_a_notebook_lead_somewhere(name):
    texts = [cell.source for cell in read(name).cells if cell.cell_type == "markdown"]
    links = [link for text in texts for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text) if "://" not in link]
    assert [link for link in links if not (FOLDER / link).exists()] == []


def test_the_address_of_the_repository_is_written_into_link_and_cell(execute):
    notebook = copy.deepcopy(read("3_attention"))
    execute.set_repository(notebook, "3_attention.ipynb", "https://github.com/you/birthgpt")
    head, install = notebook.cells[:2]
    assert f"({execute.COLAB}you/birthgpt/blob/main/notebooks/3_attention.ipynb)" in head.source
    assert 'REPOSITORY = "https://github.com/you/birthgpt"' in install.source
    for address in ("you/birthgpt", "https://github.com/you", "https://example.org/you/birthgpt"):
        with pytest.raises(ValueError, match="give https://github.com/OWNER/NAME"):
            execute.set_repository(notebook, "3_attention.ipynb", address)


def test_a_parameter_that_no_notebook_has_is_refused(execute):
    with pytest.raises(ValueError, match="does not set STEPZ"):
        execute.execute(FOLDER / "1_play.ipynb", {"STEPZ": 3})
    notebook = read("1_play")
    for cell in notebook.cells:
        cell.metadata.pop("tags", None)
    with pytest.raises(ValueError, match="0 cells have the tag parameters, not one"):
        execute.insert_parameters(notebook, {"STEPS": 3}, FOLDER / "1_play.ipynb")


def test_parameters_replace_those_of_the_notebook(execute):
    notebook = read("1_play")
    execute.insert_parameters(notebook, {"STEPS": 3, "TEXT_FILE": "my own.txt"}, FOLDER / "1_play.ipynb")
    values = {}
    for cell in notebook.cells[2:4]:
        exec(cell.source, values)
    assert (values["STEPS"], values["TEXT_FILE"], values["BLOCK"]) == (3, "my own.txt", 128)
