"""Run the notebooks of this folder, and save them with what they show.

    python notebooks/execute.py                                   # all; or some: 1_play 4_ask_it
    python notebooks/execute.py --repository https://github.com/OWNER/NAME   # where Colab finds them; nothing is run

Edit a notebook in Jupyter; its cell with the tag `parameters` has the sizes, which the tests make small.
"""

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent
PARAMETERS = "parameters"
"""The tag of the cell with the sizes."""

COLAB = "https://colab.research.google.com/github/"
REPOSITORY = re.compile(r"^REPOSITORY = .*$", flags=re.MULTILINE)


def notebooks() -> list[Path]:
    """The notebooks in their order."""
    return sorted(FOLDER.glob("*.ipynb"))


def execute(path: Path, parameters: Mapping[str, Any] | None = None, timeout: int = 1800) -> nbformat.NotebookNode:
    """A notebook with its outputs, after a run in a new kernel. The file stays as it is.

    Args:
        parameters: values that replace those of the cell with the tag `parameters`.
        timeout: the seconds that a cell may take.

    Raises:
        ValueError: not exactly one cell has the tag, or a parameter is not set in it.
        nbclient.exceptions.CellExecutionError: a cell raised an error.
    """
    notebook = nbformat.read(path, as_version=4)
    if parameters:
        insert_parameters(notebook, parameters, path)
    NotebookClient(notebook, timeout=timeout, kernel_name="python3", resources={"metadata": {"path": FOLDER}}).execute()
    return notebook


def insert_parameters(notebook: nbformat.NotebookNode, parameters: Mapping[str, Any], path: Path) -> None:
    """Add a cell with values behind the cell of the parameters; see `execute`."""
    tagged = [index for index, cell in enumerate(notebook.cells) if PARAMETERS in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise ValueError(f"{path}: {len(tagged)} cells have the tag {PARAMETERS}, not one")
    declared = notebook.cells[tagged[0]].source
    for name in parameters:
        if not re.search(rf"\b{name}\b[^=\n]*=", declared):
            raise ValueError(f"{path}: the cell of the parameters does not set {name}")
    values = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    notebook.cells.insert(tagged[0] + 1, nbformat.v4.new_code_cell(values))


def without_times(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook without what changes in every run: the times of cells, and warnings to the log."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


def set_repository(notebook: nbformat.NotebookNode, name: str, address: str) -> None:
    """Write the address of the repository on GitHub into the link to Colab and into the cell that installs."""
    owner_and_name = address.removeprefix("https://github.com/").strip("/")
    if not address.startswith("https://github.com/") or owner_and_name.count("/") != 1:
        raise ValueError(f"--repository {address}: give https://github.com/OWNER/NAME")
    link = f"{COLAB}{owner_and_name}/blob/main/notebooks/{name}"
    head, install = notebook.cells[:2]
    head.source = re.sub(rf"\({re.escape(COLAB)}[^)]*\)", f"({link})", head.source)
    install.source = REPOSITORY.sub(f'REPOSITORY = "https://github.com/{owner_and_name}"', install.source)


def main() -> None:
    """Run the notebooks, or write the address of the repository into them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="notebooks, without .ipynb; all if not given")
    parser.add_argument("--repository", help="where the project is on GitHub")
    arguments = parser.parse_args()
    chosen = [FOLDER / f"{name}.ipynb" for name in arguments.names] or notebooks()
    for path in chosen:
        if arguments.repository:
            notebook = nbformat.read(path, as_version=4)
            set_repository(notebook, path.name, arguments.repository)
        else:
            notebook = without_times(execute(path))
        nbformat.write(notebook, path)
        print(path.name)


if __name__ == "__main__":
    main()
