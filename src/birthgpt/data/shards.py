"""Shards: parts of a source that are read alone, for processes that share a stream, and for a run that goes on.

A file of lines is cut at the ends of lines, a Parquet file at its row groups. Other files are a shard each. A dataset
of the Hub, or of `datasets.save_to_disk`, is one shard. The numbers of lines and rows before a shard are counted once,
so that a row has the same number however the source is shared out.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TextIO

import pyarrow.parquet

from birthgpt.data.sources import (
    LINE_READERS,
    Row,
    files_of,
    is_json_array,
    naming_file,
    read_rows,
    row_group_rows,
)

MIN_SHARD_BYTES, MAX_SHARD_BYTES = 1 << 20, 1 << 26
"""A shard of lines is in memory while it is read, and a run that goes on reads the beginning of one again."""

SHARDS = 4096
"""About the number of shards of a source, within the two sizes."""


@dataclass(frozen=True)
class Shard:
    """A part of a source.

    Attributes:
        source: the file; or what a user gave, if it is read as a whole.
        start: the first byte, or the first row group.
        stop: the byte, or the row group, after the last one; None: the end of the source.
        lines: the lines of the file before this shard; of a Parquet file, its rows.
        rows: the rows of the source before this shard.
    """

    source: str
    start: int = 0
    stop: int | None = None
    lines: int = 0
    rows: int = 0


Counts = tuple[int, int]
"""The lines and the rows of a shard. They differ where empty lines are no rows."""


def find_shards(source: str) -> list[Shard]:
    """The shards of a source, without the numbers of lines and rows before them.

    Raises:
        ValueError: a file cannot be read.
    """
    files = files_of(source)
    if not files:
        return [Shard(source)]
    size = min(max(sum(map(_size, files)) // SHARDS, MIN_SHARD_BYTES), MAX_SHARD_BYTES)
    shards = []
    for file in files:
        with naming_file(file):
            edges = _edges(file, size)
        if len(edges) <= 2:
            shards.append(Shard(str(file)))
        else:
            shards += [Shard(str(file), start, stop) for start, stop in pairwise(edges)]
    return shards


def number_shards(shards: Sequence[Shard], counts: Sequence[Counts]) -> list[Shard]:
    """The shards with a row, each with the numbers of lines and rows before it."""
    numbered, lines, rows = [], 0, 0
    for shard, (own_lines, own_rows) in zip(shards, counts, strict=True):
        if shard.start == 0:
            lines = 0
        if own_rows:
            numbered.append(replace(shard, lines=lines, rows=rows))
        lines += own_lines
        rows += own_rows
    return numbered


def count_rows(shard: Shard) -> Counts:
    """The lines and the rows of a shard of a file; lines are counted without parsing them.

    Raises:
        ValueError: the file cannot be read.
    """
    path = Path(shard.source)
    with naming_file(path):
        if path.suffix.lower() == ".parquet":
            with pyarrow.parquet.ParquetFile(path) as file:
                groups = range(file.num_row_groups)[shard.start : shard.stop]
                rows = sum(file.metadata.row_group(group).num_rows for group in groups)
            return rows, rows
        if not _is_of_lines(path):
            return 0, sum(1 for _ in read_rows(shard.source))
        # a line that is not UTF-8 is refused where it is read
        with _open_lines(path, shard, errors="replace") as lines:
            if path.suffix.lower() == ".jsonl":
                empty = [not line.strip() for line in lines]
                return len(empty), len(empty) - sum(empty)
            count = sum(1 for _ in lines)
        return count, count


def read_shard(shard: Shard, *, split: str = "train", streaming: bool = False) -> Iterator[Row]:
    """Yield the rows of a shard, as `read_rows` yields those of a source.

    Raises:
        ValueError: as of `read_rows`; a file that has become shorter.
    """
    if shard.stop is None:
        yield from read_rows(shard.source, split=split, streaming=streaming)
        return
    path = Path(shard.source)
    with naming_file(path):
        if path.suffix.lower() == ".parquet":
            with pyarrow.parquet.ParquetFile(path) as file:
                yield from row_group_rows(path, file, range(shard.start, shard.stop), shard.lines)
        else:
            with _open_lines(path, shard) as lines:
                yield from LINE_READERS[path.suffix.lower()](path, lines, shard.lines)


def _is_of_lines(path: Path) -> bool:
    """Whether each line of a file can be read alone."""
    suffix = path.suffix.lower()
    return suffix in LINE_READERS and not (suffix == ".jsonl" and is_json_array(path))


def _size(path: Path) -> int:
    with naming_file(path):
        return path.stat().st_size


def _edges(path: Path, size: int) -> list[int]:
    """Where the shards of a file begin and end."""
    if path.suffix.lower() == ".parquet":
        with pyarrow.parquet.ParquetFile(path) as file:
            return list(range(file.num_row_groups + 1))
    if not _is_of_lines(path):
        return [0]
    end = path.stat().st_size
    edges = [0]
    with path.open("rb") as file:
        for place in range(size, end, size):
            # a line belongs to the shard in which it begins
            file.seek(place - 1)
            file.readline()
            if file.tell() > edges[-1]:
                edges.append(file.tell())
    return edges if edges[-1] == end else [*edges, end]


def _open_lines(path: Path, shard: Shard, errors: str = "strict") -> TextIO:
    """The lines of a shard, as those of a whole text file."""
    encoding = "utf-8" if shard.start else "utf-8-sig"
    if shard.stop is None:
        return path.open(encoding=encoding, errors=errors)
    with path.open("rb") as file:
        file.seek(shard.start)
        content = file.read(shard.stop - shard.start)
    if len(content) < shard.stop - shard.start:
        raise ValueError(f"{path}: shorter than when it was opened: a corpus must not change while it is read")
    return io.TextIOWrapper(io.BytesIO(content), encoding=encoding, errors=errors)
