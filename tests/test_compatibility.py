"""docs/compatibility.md is written from what was seen, and from the snippets that were run."""

import json
import re

import make_compatibility
import pytest

SNIPPETS = sorted(path.stem for path in make_compatibility.SNIPPETS.glob("*.py"))


def test_the_page_is_that_of_what_was_seen():
    seen = json.loads(make_compatibility.SEEN.read_text(encoding="utf-8"))
    assert make_compatibility.PAGE.read_text(encoding="utf-8") == make_compatibility.page(seen)
    assert seen["snippets"].keys() == set(SNIPPETS)


def test_every_snippet_is_on_the_page_and_is_run_by_a_test():
    assert sorted(name for names in make_compatibility.PROGRAMS.values() for name in names) == SNIPPETS
    tests = "\n".join(path.read_text(encoding="utf-8") for path in make_compatibility.TESTS.glob("test_*.py"))
    for name in SNIPPETS:
        pattern = re.escape(name).replace("strings", "({form}|strings)").replace("messages", "({form}|messages)")
        pattern = re.sub("precision_..16", r"precision_{name}", pattern)
        assert re.search(rf'run\(f?"{pattern}"\)', tests), name


@pytest.mark.parametrize("name", SNIPPETS)
def test_a_snippet_has_at_most_ten_lines_beside_its_imports(name):
    title, code = make_compatibility.read_snippet(name)
    lines = [line for line in code.splitlines() if line.strip() and not re.match(r"(from|import) ", line)]
    assert title and len(lines) <= 10


def test_what_was_seen_with_other_versions_is_forgotten():
    seen = {"onnx_export": {"test": "test", "types": {"softmax": "yes"}}}
    first = make_compatibility.add({}, seen, {"onnx": "1"})
    more = {"onnx_export": {"test": "test", "types": {"abc": "a reason"}}}
    assert make_compatibility.add(first, more, {"onnx": "1"})["snippets"]["onnx_export"]["types"] == {
        "abc": "a reason",
        "softmax": "yes",
    }
    assert make_compatibility.add(first, more, {"onnx": "2"})["snippets"]["onnx_export"]["types"] == {"abc": "a reason"}
