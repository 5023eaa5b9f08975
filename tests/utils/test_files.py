"""Files are written completely or not at all."""

import json
import re
from pathlib import Path

import pytest

import birthgpt
from birthgpt.utils.files import read_json, read_json_list, save_json


def test_saved_json_is_read_back_unchanged_from_a_new_folder(tmp_path):
    data = {"name": "Orléans ⁇", "accuracy": 0.5, "slices": {"a": [1, None]}}
    save_json(tmp_path / "new" / "metrics.json", data)
    assert json.loads((tmp_path / "new" / "metrics.json").read_text(encoding="utf-8")) == data
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["metrics.json"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object()])
def test_a_value_that_json_cannot_contain_leaves_the_file_unchanged(tmp_path, value):
    path = tmp_path / "metrics.json"
    save_json(path, {"accuracy": 1.0})
    with pytest.raises(ValueError, match="metrics.json: this cannot be written as JSON"):
        save_json(path, {"accuracy": value})
    assert json.loads(path.read_text()) == {"accuracy": 1.0}
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "metrics.json"
    save_json(path, {"accuracy": 1.0})

    def fail(self, target):
        raise OSError("disk gone")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(ValueError, match="metrics.json cannot be written: disk gone"):
        save_json(path, {"accuracy": 0.0})
    assert json.loads(path.read_text()) == {"accuracy": 1.0}
    assert list(tmp_path.iterdir()) == [path]


BROKEN = {
    "missing": (None, "cannot be read: No such file"),
    "not-json": (b"{", "is damaged: it is not JSON"),
    "not-utf8": (b"\xff", "is damaged: it is not UTF-8"),
    "half-a-character": (rb'{"name": "\ud800"}', "is damaged: it is not UTF-8"),
    "too-deep": (b"[" * 100_000, "cannot be read: it is nested too deeply"),
    "other": (b"3", "is damaged: it contains int instead of"),
}


@pytest.mark.parametrize("read", [read_json, read_json_list])
@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN)
def test_json_that_cannot_be_read_is_an_error_that_names_the_file(tmp_path, read, content, message):
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=f"a.json {message}"):
        read(tmp_path / "a.json")


def test_files_are_read_as_json_in_one_place():
    """Everything else would need its own errors for damaged files."""
    sources = Path(birthgpt.__file__).parent.rglob("*.py")
    by_hand = [path.name for path in sources if re.search(r"json\.loads?\(.*read_text", path.read_text())]
    # the package's own lists of words are not files of a user
    assert sorted(by_hand) == ["files.py", "lists.py"]
