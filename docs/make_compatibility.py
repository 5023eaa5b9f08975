"""Run the snippets of docs/snippets for every attention type, and write docs/compatibility.md from what was seen.

    python docs/make_compatibility.py                            # run all; needs `make clients` before
    python docs/make_compatibility.py tests/clients/test_onnx.py # run some: the others keep what was seen before
    python docs/make_compatibility.py --page                     # run nothing: write the page again

The tests in tests/clients run the snippets, and check what they give. What was seen is in docs/compatibility.json.
"""

import argparse
import ast
import datetime
import json
import os
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from birthgpt.model.attention import ATTENTION_TYPES
from birthgpt.utils.files import write_text
from birthgpt.utils.tables import markdown_table

DOCS = Path(__file__).parent
PAGE, SEEN, SNIPPETS = DOCS / "compatibility.md", DOCS / "compatibility.json", DOCS / "snippets"
TESTS = DOCS.parent / "tests" / "clients"

PROGRAMS = {
    "transformers": ("pipeline_of_strings", "pipeline_of_messages", "trainer", "trainer_resume", "serve_chat"),
    "torch": ("precision_bf16", "precision_fp16", "torch_export", "torch_export_static"),
    "onnxruntime": ("onnx_export", "onnx_runtime"),
    "torchao": ("int8_torchao",),
    "accelerate": ("accelerate_offload",),
    "trl": ("trl_sft", "trl_dpo"),
    "peft": ("peft_lora",),
    "lm_eval": ("lm_eval",),
    "datasets": ("datasets_corpus", "datasets_files"),
    "evaluate": ("evaluate_metrics",),
    "captum": ("captum_ablation", "captum_gradients"),
    "gradio": ("gradio_chat",),
}
"""The snippets by the program that they show, in the order of the page."""

WORKS, FAILS, NOT_RUN = "yes", "no", ""
HEAD = """# Compatibility

What other programs do with a checkpoint of this package. `python docs/make_compatibility.py` runs each snippet below
for each attention type, checks what it gives, and writes this page: *{yes}* where all checks held, *{no}* with the
reason where the other program does not take the model; an empty cell was not run. `you/model` is the folder of an
export (`birthgpt push`), or a repository on the Hub. `questions.jsonl` has rows with `question` and `answer`.

`import birthgpt` makes the models known to transformers. Without the package, `trust_remote_code=True` does the same.
"""


class Recorder:
    """A plugin of pytest that notes, for each snippet and attention type, whether the tests of it hold."""

    def __init__(self) -> None:
        self.seen: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the result of a test; a refusal that a test expects has a reason."""
        found = [value for name, value in report.user_properties if name == "snippet"]
        if report.when != "call" or not found:
            return
        reason = dict(report.user_properties).get("reason", "")
        for name, attention_type in found:
            entry = self.seen.setdefault(name, {"types": {}})
            entry["test"] = report.nodeid.split("[")[0]
            entry["types"][attention_type] = reason or WORKS


def run(paths: list[str]) -> dict[str, dict[str, Any]]:
    """Run the tests for every attention type, and return what was seen.

    Raises:
        SystemExit: a test failed.
    """
    os.environ["BIRTHGPT_ALL_TYPES"] = "1"
    recorder = Recorder()
    code = pytest.main(["-q", "-p", "no:cacheprovider", *(paths or [str(TESTS)])], plugins=[recorder])
    if code != pytest.ExitCode.OK:
        raise SystemExit(f"pytest ended with {code!r}; nothing is written")
    return recorder.seen


def installed() -> dict[str, str]:
    """The versions of the programs."""
    return {name: version(name).split("+")[0] for name in sorted({*PROGRAMS, "onnx", "tokenizers"})}


def add(earlier: dict[str, Any], seen: dict[str, dict[str, Any]], versions: dict[str, str]) -> dict[str, Any]:
    """What was seen earlier, with what was seen now in its place; nothing that was seen with other versions."""
    snippets = earlier.get("snippets", {}) if earlier.get("versions") == versions else {}
    for name, entry in seen.items():
        types = {**snippets.get(name, {}).get("types", {}), **entry["types"]}
        snippets[name] = {"test": entry["test"], "types": dict(sorted(types.items()))}
    return {
        "date": datetime.date.today().isoformat(),
        "versions": versions,
        "snippets": dict(sorted(snippets.items())),
    }


def read_snippet(name: str) -> tuple[str, str]:
    """The title of a snippet, and its code."""
    text = (SNIPPETS / f"{name}.py").read_text(encoding="utf-8")
    title = ast.get_docstring(ast.parse(text)) or ""
    return title, text.split('"""', 2)[2].strip()


def page(seen: dict[str, Any]) -> str:
    """The page: a table, and the snippets with their reasons."""
    versions = ", ".join(f"{name} {number}" for name, number in seen["versions"].items())
    run_with = f"Run on {seen['date']} on a CPU, with {versions}."
    head = HEAD.format(yes=WORKS, no=FAILS).strip()
    parts = [head, run_with, table(seen), *(section(*each, seen) for each in PROGRAMS.items())]
    return "\n\n".join(parts) + "\n"


def table(seen: dict[str, Any]) -> str:
    """A row for each snippet, a column for each attention type."""
    types = sorted(ATTENTION_TYPES)
    rows = []
    for name in (name for names in PROGRAMS.values() for name in names):
        found = seen["snippets"].get(name, {"types": {}})["types"]
        # what does not read a model is the same for all
        any_type = "you/model" not in read_snippet(name)[1] and len(found) == 1
        cells = {kind: mark(next(iter(found.values())) if any_type else found.get(kind, NOT_RUN)) for kind in types}
        rows.append({"": read_snippet(name)[0].rstrip(".")} | cells)
    return markdown_table(rows, ["", *types])


def mark(result: str) -> str:
    """The cell of a result."""
    return result if result in (WORKS, NOT_RUN) else FAILS


def section(program: str, names: tuple[str, ...], seen: dict[str, Any]) -> str:
    """The snippets of a program."""
    return "\n\n".join([f"## {program}", *(part for name in names for part in subsection(name, seen))])


def subsection(name: str, seen: dict[str, Any]) -> Iterator[str]:
    """Title, code, reasons and test of a snippet."""
    title, code = read_snippet(name)
    found = seen["snippets"].get(name, {"types": {}, "test": ""})
    yield f"**{title}**"
    yield f"```python\n{code}\n```"
    for reason in sorted(set(found["types"].values()) - {WORKS}):
        kinds = [kind for kind, result in found["types"].items() if result == reason]
        yield f"It fails ({', '.join(kinds)}): {reason}."
    if found["test"]:
        yield f"Checked by `{found['test']}`."


def main() -> None:
    """Run what is asked for, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true", help="run nothing")
    given, paths = parser.parse_known_args()
    now = {} if given.page else run(paths)
    seen = json.loads(SEEN.read_text(encoding="utf-8")) if SEEN.exists() else {}
    if not given.page:
        seen = add(seen, now, installed())
        write_text(SEEN, json.dumps(seen, indent=1, ensure_ascii=False) + "\n")
    write_text(PAGE, page(seen))


if __name__ == "__main__":
    sys.path[:0] = [str(DOCS.parent), str(DOCS.parent / "tests")]
    main()
