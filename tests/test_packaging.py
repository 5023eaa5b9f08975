"""The package is complete: its folders, the libraries that it imports, and the pinned versions."""

import ast
import configparser
import re
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DISTRIBUTION_OF = {"yaml": "PyYAML", "sklearn": "scikit-learn", "jinja2": "Jinja2", "pymdownx": "pymdown-extensions"}
OF_DEVELOPERS = {"test", "clients", "pages", "docs", "notebooks"}
"""The extras that the package itself never imports."""
USED = ("tests", "results", "benchmarks", "exploration", "notebooks", "docs")
"""The folders beside the source that import libraries."""


@pytest.fixture(scope="module")
def options():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def lines_of(value: str) -> list[str]:
    return [line for line in value.split("\n") if line and not line.startswith("#")]


def names_of(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w.-]+", requirement)[0] for requirement in requirements}


def imported(folder: Path, at_once: bool = False) -> set[str]:
    """The top-level packages, other than Python's own and this one, that the files of a folder import.

    With `at_once`, those that are imported with the file, and not in a function.
    """
    found = set()
    for path in folder.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body if at_once else ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {name.name.split(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"birthgpt"}


def test_every_folder_of_the_source_is_a_package_of_the_wheel(options):
    folders = {path.parent.relative_to(ROOT / "src") for path in (ROOT / "src").rglob("__init__.py")}
    packages = {".".join(folder.parts) for folder in folders}
    assert packages | {"birthgpt.configs"} == set(lines_of(options["options"]["packages"]))


def test_every_library_that_is_imported_is_declared(options):
    declared = names_of(lines_of(options["options"]["install_requires"]))
    assert {DISTRIBUTION_OF.get(name, name) for name in imported(ROOT / "src", at_once=True)} <= declared
    extras = options["options.extras_require"]
    for_users = set().union(*(names_of(lines_of(extras[name])) for name in extras.keys() - OF_DEVELOPERS))
    assert {DISTRIBUTION_OF.get(name, name) for name in imported(ROOT / "src")} <= declared | for_users
    declared |= set().union(*(names_of(lines_of(extras[name])) for name in OF_DEVELOPERS))
    modules = [path for folder in ("tests", "results", "docs") for path in (ROOT / folder).glob("*.py")]
    packages = (ROOT / "tests").glob("*/__init__.py")
    # benchmarks is a package without __init__.py; benchmarks/laws is inside it
    folders = [*(path.parent for path in packages), ROOT / "benchmarks", ROOT / "exploration"]
    local = {path.stem.replace("_", "-") for path in [*modules, *folders]}
    used = {name.replace("_", "-") for folder in USED for name in imported(ROOT / folder)}
    assert {DISTRIBUTION_OF.get(name, name) for name in used - local} <= {name.replace("_", "-") for name in declared}


def test_every_declared_library_has_a_tested_version(options):
    pinned = names_of(lines_of((ROOT / "constraints.txt").read_text(encoding="utf-8")))
    extras = options["options.extras_require"]
    declared = [options["options"]["install_requires"], *extras.values()]
    assert set().union(*(names_of(lines_of(part)) for part in declared)) <= pinned


def test_the_workflow_runs_every_make_target_that_a_fresh_clone_must_pass():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    of_clone = set(re.findall(r"^(?:CI=1 )?make (\w+)", script, re.MULTILINE))
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8"))["jobs"]
    in_workflow = set()
    for job in jobs.values():
        for step in job["steps"]:
            for target in re.findall(r"^make (\S+|\$\{\{.*\}\})$", step.get("run", ""), re.MULTILINE):
                in_workflow |= {target} if "$" not in target else set(job["strategy"]["matrix"]["target"])
    # `make wheel` runs a small quickstart
    assert in_workflow == of_clone - {"quickstart"}


def test_a_make_target_is_named_for_those_who_contribute():
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)[1].split()
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert [
        target for target in targets if f"make {target}" not in text and target not in ("quickstart", "clean")
    ] == []
