"""What other people's programs are given: for each attention type, a model that knows a few answers.

A test runs a snippet of docs/snippets, which is also what docs/compatibility.md shows, and says what must be right.
"""

import os
import runpy
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from birthgpt.model.attention import ATTENTION_TYPES
from clients.workspace import SIX_TYPES, Workspace, make_people, make_workspace

SNIPPETS = Path(__file__).parents[2] / "docs" / "snippets"
TYPES = sorted(ATTENTION_TYPES) if os.environ.get("BIRTHGPT_ALL_TYPES") else SIX_TYPES

PROGRAMS = {
    "test_captum.py": ("captum",),
    "test_gradio.py": ("gradio",),
    "test_lm_eval.py": ("lm_eval",),
    "test_lm_eval_tasks.py": ("lm_eval",),
    "test_onnx.py": ("onnx", "onnxscript", "onnxruntime"),
    "test_peft.py": ("peft", "trl"),
    "test_serve.py": ("openai", "fastapi", "uvicorn"),
    "test_torchao.py": ("torchao",),
    "test_trl.py": ("trl",),
}
collect_ignore = [file for file, modules in PROGRAMS.items() if not all(map(find_spec, modules))]
"""`make clients` installs all programs; other runs leave out the tests of those that are not installed."""

# no program may call home
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"


@pytest.fixture(scope="session")
def people(tmp_path_factory) -> Path:
    """A folder of synthetic people, with questions of two relations."""
    folder = tmp_path_factory.mktemp("corpus") / "people"
    make_people(folder)
    return folder


@pytest.fixture(scope="session", params=TYPES)
def workspace(request, people, tmp_path_factory) -> Workspace:
    """A folder with a model of each attention type."""
    return make_workspace(tmp_path_factory.mktemp(request.param), people, request.param)


@pytest.fixture
def run(workspace, monkeypatch, record_property) -> Callable[[str], dict[str, Any]]:
    """A function that runs a snippet in the workspace, and returns its variables."""
    monkeypatch.chdir(workspace.folder)

    def run_snippet(name: str) -> dict[str, Any]:
        record_property("snippet", [name, workspace.attention_type])
        return runpy.run_path(str(SNIPPETS / f"{name}.py"))

    return run_snippet


@pytest.fixture
def fails(record_property) -> Callable[[str], None]:
    """A function that notes why another program does not take models of this package."""
    return lambda reason: record_property("reason", reason)
