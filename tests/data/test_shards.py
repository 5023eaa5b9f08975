"""Shards: together they are the source, with the same rows, places and numbers, however small they are."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from birthgpt.data import shards
from birthgpt.data.corpus import load_corpus
from birthgpt.data.shards import count_rows, find_shards, number_shards, read_shard
from birthgpt.data.sources import read_rows

PEOPLE = [f"Person {number}. Born in {'x' * (number % 7)} Ört {number}." for number in range(60)]
CONTENTS = {
    "text.txt": "\n".join(PEOPLE),
    "ends.txt": "\n".join(PEOPLE) + "\n",
    "windows.txt": "\r\n".join(PEOPLE) + "\r\n",
    "old-mac.txt": "\n".join(PEOPLE[:30]) + "\n" + "\r".join(PEOPLE[30:]),
    "empty-lines.txt": "\n\n\n".join(PEOPLE) + "\n\n",
    "mark.txt": "\ufeff" + "\n".join(PEOPLE),
    "cells.tsv": "\n".join(f"{line}\t{number}" for number, line in enumerate(PEOPLE)),
    "objects.jsonl": "\n\n".join(json.dumps({"text": line}) for line in PEOPLE) + "\n \n",
    "array.jsonl": json.dumps([{"text": line} for line in PEOPLE], indent=1),
    "cells.csv": "text,more\n" + "\n".join(f'{line},"two\nlines"' for line in PEOPLE),
    "array.json": json.dumps([{"text": line} for line in PEOPLE]),
}
CUT = ["text.txt", "ends.txt", "windows.txt", "empty-lines.txt", "mark.txt", "cells.tsv", "objects.jsonl"]


@pytest.fixture
def small(monkeypatch):
    """Shards of about 200 bytes."""
    monkeypatch.setattr(shards, "MIN_SHARD_BYTES", 200)


def write(folder, names=CONTENTS) -> None:
    for name in names:
        (folder / name).write_bytes(CONTENTS[name].encode())


def numbered(source: str) -> list:
    found = find_shards(source)
    return number_shards(found, [count_rows(shard) for shard in found])


@pytest.mark.parametrize("name", CONTENTS)
def test_shards_are_the_rows_of_the_source_with_their_places_and_numbers(tmp_path, small, name):
    write(tmp_path)
    source = str(tmp_path / name)
    found = numbered(source)
    assert [row for shard in found for row in read_shard(shard)] == list(read_rows(source))
    if name in CUT:
        assert len(found) > 5
    rows = 0
    for shard in found:
        assert shard.rows == rows
        rows += len(list(read_shard(shard)))


def test_a_parquet_file_is_cut_at_its_row_groups(tmp_path):
    table = pyarrow.table({"text": PEOPLE})
    pyarrow.parquet.write_table(table, tmp_path / "people.parquet", row_group_size=13)
    found = numbered(str(tmp_path / "people.parquet"))
    assert [len(list(read_shard(shard))) for shard in found] == [13, 13, 13, 13, 8]
    rows = list(read_rows(str(tmp_path / "people.parquet")))
    assert [row for shard in found for row in read_shard(shard)] == rows


def test_rows_are_numbered_over_all_files_of_a_pattern(tmp_path, small):
    write(tmp_path, ["cells.csv", "objects.jsonl", "text.txt"])
    (tmp_path / "none.txt").write_text("")
    found = numbered(f"{tmp_path}/*")
    # what is empty is no shard, because a process that gets it would have nothing to do
    assert {shard.source.rsplit("/")[-1] for shard in found} == {"cells.csv", "objects.jsonl", "text.txt"}
    rows = [shard.rows + number for shard in found for number, _ in enumerate(read_shard(shard))]
    assert rows == list(range(3 * len(PEOPLE)))


@pytest.mark.parametrize("name", ["text.txt", "objects.jsonl", "windows.txt"])
def test_a_stream_of_shards_has_the_lines_of_the_corpus_in_memory(tmp_path, small, name):
    write(tmp_path)
    stream = load_corpus(str(tmp_path / name), streaming=True)
    assert stream.num_shards > 5
    assert list(stream) == list(load_corpus(str(tmp_path / name)))


def test_a_line_longer_than_a_shard_is_read_whole(tmp_path, small):
    lines = ["a", "b" * 1000, "c", "d" * 500]
    (tmp_path / "lines.txt").write_text("\n".join(lines))
    found = numbered(str(tmp_path / "lines.txt"))
    assert [row["text"] for shard in found for _, row in read_shard(shard)] == lines


def test_a_bad_line_is_named_by_its_number_in_the_file(tmp_path, small):
    (tmp_path / "lines.jsonl").write_text("\n".join([json.dumps({"text": "a" * 50})] * 40 + ["{bad"]))
    stream = load_corpus(str(tmp_path / "lines.jsonl"), streaming=True)
    with pytest.raises(ValueError, match=r"lines\.jsonl, line 41: cannot be read as JSON"):
        list(stream)
    (tmp_path / "lines.txt").write_bytes(b"good\n" * 100 + b"\xff\n")
    with pytest.raises(ValueError, match=r"lines\.txt, line 101: not UTF-8"):
        list(load_corpus(str(tmp_path / "lines.txt"), streaming=True))


def test_a_file_that_becomes_shorter_or_vanishes_is_refused(tmp_path, small):
    write(tmp_path)
    for name in ("text.txt", "ends.txt"):
        stream = load_corpus(str(tmp_path / name), streaming=True)
        if name == "text.txt":
            (tmp_path / name).write_text("Ada .\n")
        else:
            (tmp_path / name).unlink()
        with pytest.raises(ValueError, match=f"{name}: (shorter than when it was opened|cannot be read: No such file)"):
            list(stream)


def test_shards_have_at_least_a_megabyte_and_at_most_64(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("Ada .\n" * 100_000)
    assert len(find_shards(str(tmp_path / "a.txt"))) == 1
    (tmp_path / "b.txt").write_text("Ada .\n" * 200_000)
    assert len(find_shards(f"{tmp_path}/*.txt")) == 3
    monkeypatch.setattr(shards, "SHARDS", 1)
    assert len(find_shards(f"{tmp_path}/*.txt")) == 2
