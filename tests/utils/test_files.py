"""Files are written completely or not at all."""

import json
from pathlib import Path

import pytest

from birthgpt.utils.files import read_json, save_json


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


@pytest.mark.parametrize("content", [rb'{"name": "\ud800"}', rb'{"\ud800": 1}', b'{"name": "\xff"}'])
def test_text_that_no_file_can_contain_is_damage_of_the_file_that_has_it(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="config.json is damaged: it is not UTF-8"):
        read_json(path)
