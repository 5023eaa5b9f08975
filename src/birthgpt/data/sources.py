"""Rows of a source, one at a time: a file, several files, a saved dataset, or a dataset of the Hub.

A row is ``(where, columns)``: `where` names the place for error messages, `columns` maps names to values.
Files are read strictly: text is UTF-8, cells are not converted, nothing is guessed. Only one row is in memory at a
time (one batch of a Parquet file, the complete file of a JSON array). `shards.py` reads parts of a source.

``line N`` counts from 1, like editors. ``row N``, for sources without lines, counts from 0, like ids.
"""

import csv
import difflib
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pyarrow
import pyarrow.parquet

from birthgpt.data.names import normalize_text
from birthgpt.data.tokenizers import RESERVED_TOKENS
from birthgpt.utils.errors import first_line
from birthgpt.utils.files import check_input_file, check_input_folder, matching_paths

# a line may be as long in a CSV file as in a text file
csv.field_size_limit(2**31 - 1)

logger = logging.getLogger(__name__)

LARGE = 500_000_000
"""The size of a file, in bytes, from which on it is reported."""

Row = tuple[str, dict[Any, Any]]

_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


def check_source(source: str, *, split: str = "train") -> None:
    """Check that `source` is a file or folder that can be read, or has the form of a dataset id of the Hub.

    Raises:
        ValueError: no such file (the message suggests the nearest name), a file of another format or with a split, or
            a folder that `datasets.save_to_disk` did not write.
    """
    path = Path(source)
    if path.is_dir():
        if not _is_saved_dataset(path):
            raise ValueError(f"{source}: a folder that datasets.save_to_disk did not write; give a file")
        check_input_folder(path)
        return
    files = files_of(source)
    if not files and not _may_be_hub_id(source):
        raise ValueError(_no_such_file(path))
    if files and split != "train":
        raise ValueError(f"{source}: a file has no split {split!r}; give the file of that split")
    for file in files:
        check_input_file(file)
        if not file.exists():
            raise ValueError(f"{file}: a link that leads nowhere")
        if file.suffix.lower() not in _READERS:
            raise ValueError(f"{file}: cannot read this kind of file; give one of {', '.join(_READERS)}")


def read_rows(source: str, *, split: str = "train", streaming: bool = False) -> Iterator[Row]:
    """Yield the rows of `source` in order.

    Args:
        source: a file (.txt: column ``text``; .tsv: no header, columns 0, 1, …; .csv; .json, .jsonl: one
            object per line or an array of objects; .parquet), a glob pattern (files in the order of their
            names; `**` is any number of folders), a folder of `datasets.save_to_disk`, or a dataset id of the Hub.
        split: the split of a saved `DatasetDict` or of a Hub dataset; files only have "train".
        streaming: read a Hub dataset over the network instead of downloading it first.

    Raises:
        ValueError: one line with the file and the place, for anything that cannot be read.
    """
    check_source(source, split=split)
    files = files_of(source)
    if files:
        for file in files:
            report_size(file)
            with naming_file(file):
                yield from _READERS[file.suffix.lower()](file)
    elif Path(source).is_dir():
        yield from _saved_rows(source, split)
    else:
        yield from _hub_rows(source, split, streaming)


def report_size(file: Path) -> None:
    """Log the size of a large file, so that a user knows why reading it takes long."""
    size = file.stat().st_size
    if size >= LARGE:
        logger.info("%s: reading %.1f GB", file, size / 1e9)


def get_column(where: str, row: dict[Any, Any], column: str) -> Any:
    """The value of `column`; a ValueError that lists the columns if it is missing."""
    if column not in row:
        raise ValueError(f"{where}: no column {column!r}; there are: {', '.join(map(str, row))}")
    return row[column]


def clean_text(where: str, value: Any) -> str:
    """`value` as `names.normalize_text` returns it; a missing value (None) is the empty string.

    Raises:
        ValueError: `value` is not a string, or contains a reserved or a broken character.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{where}: expected text, found {type(value).__name__} {value!r}")
    for token in RESERVED_TOKENS:
        if token in value:
            raise ValueError(
                f"{where}, character {value.index(token) + 1}: {token!r} (U+{ord(token):04X}) is a special"
                " token of the tokenizers; remove or replace it"
            )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = value[error.start]
        raise ValueError(f"{where}: {half!r} is half of a surrogate pair, not a character") from None
    return normalize_text(value)


def files_of(source: str) -> list[Path]:
    """The files that a path or a glob pattern means, in order; none for a folder and for a dataset of the Hub."""
    if Path(source).is_dir():
        return []
    # the name of a file may contain the characters of a pattern
    if Path(source).exists():
        return [Path(source)]
    return [path for path in matching_paths(source) if not path.is_dir()]


def _may_be_hub_id(source: str) -> bool:
    return _HUB_ID.fullmatch(source) is not None and Path(source).suffix.lower() not in _READERS


def _is_saved_dataset(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("state.json", "dataset_dict.json"))


def _no_such_file(path: Path) -> str:
    missing = path
    while not missing.parent.exists():
        missing = missing.parent
    message = f"{path}: no such file"
    if missing != path:
        message += f" (there is no folder {missing})"
    names = [entry.name for entry in missing.parent.iterdir()] if missing.parent.is_dir() else []
    nearest = difflib.get_close_matches(missing.name, sorted(names), n=1)
    return message + (f"; did you mean {missing.parent / nearest[0]}?" if nearest else "")


@contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """Context in which an error of reading a file is a ValueError with its name and, if possible, its line."""
    try:
        yield
    except UnicodeDecodeError:
        raise ValueError(_not_utf8(path)) from None
    except pyarrow.ArrowException as error:
        raise ValueError(f"{path}: cannot be read as {path.suffix[1:]}: {first_line(error)}") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or first_line(error)}") from None


def _not_utf8(path: Path) -> str:
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return (
                    f"{path}, line {number}: not UTF-8: byte 0x{line[error.start]:02x} at offset"
                    f" {offset + error.start}; save the file as UTF-8"
                )
            offset += len(line)
    return f"{path}: not UTF-8; save the file as UTF-8"


def _text_rows(path: Path, lines: Iterable[str], before: int) -> Iterator[Row]:
    for number, line in enumerate(lines, start=before + 1):
        yield f"{path}, line {number}", {"text": line.rstrip("\n")}


def _tsv_rows(path: Path, lines: Iterable[str], before: int) -> Iterator[Row]:
    for where, row in _text_rows(path, lines, before):
        yield where, dict(enumerate(row["text"].split("\t")))


def _csv_rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = next(reader, [])
            if len(set(header)) < len(header):
                raise ValueError(f"{path}, line 1: two columns of the same name in {', '.join(header)}")
            # an empty line is not a row
            for cells in filter(None, reader):
                where = f"{path}, line {reader.line_num}"
                if len(cells) != len(header):
                    raise ValueError(f"{where}: {len(cells)} columns, but the header has {len(header)}")
                yield where, dict(zip(header, cells, strict=True))
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.line_num}: cannot be read as CSV: {error}") from None


def _json_rows(path: Path) -> Iterator[Row]:
    array = is_json_array(path)
    with path.open(encoding="utf-8-sig") as file:
        if array:
            for where, row in _json_array_rows(path, file):
                yield where, _json_object(where, row)
        else:
            yield from _json_line_rows(path, file, 0)


def is_json_array(path: Path) -> bool:
    """Whether a JSON file is an array, and not one object per line."""
    with path.open(encoding="utf-8-sig") as file:
        first = next((line for line in file if line.strip()), "")
    return first.lstrip().startswith("[")


def _json_line_rows(path: Path, lines: Iterable[str], before: int) -> Iterator[Row]:
    for number, line in enumerate(lines, start=before + 1):
        if line.strip():
            where = f"{path}, line {number}"
            yield where, _json_object(where, _parse_json(path, line, before=number - 1))


def _json_object(where: str, row: Any) -> dict[Any, Any]:
    if not isinstance(row, dict):
        raise ValueError(f"{where}: expected a JSON object, found {type(row).__name__} {row!r:.40}")
    return row


def _json_array_rows(path: Path, file: Any) -> Iterator[tuple[str, Any]]:
    for number, row in enumerate(_parse_json(path, file.read(), before=0)):
        yield f"{path}, row {number}", row


def _parse_json(path: Path, text: str, *, before: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}, line {before + error.lineno}: cannot be read as JSON (an array, or one object per line):"
            f" {error.msg} at character {error.colno}"
        ) from None


def _parquet_rows(path: Path) -> Iterator[Row]:
    with pyarrow.parquet.ParquetFile(path) as file:
        yield from row_group_rows(path, file, range(file.num_row_groups), 0)


def row_group_rows(
    path: Path, file: pyarrow.parquet.ParquetFile, row_groups: Iterable[int], before: int
) -> Iterator[Row]:
    """The rows of these row groups of a Parquet file, of which `before` rows are before them."""
    number = before
    for batch in file.iter_batches(batch_size=1000, row_groups=list(row_groups)):
        # Parquet does not guarantee that its strings are UTF-8
        batch.validate(full=True)
        for row in batch.to_pylist():
            yield f"{path}, row {number}", row
            number += 1


LINE_READERS: dict[str, Callable[[Path, Iterable[str], int], Iterator[Row]]] = {
    ".txt": _text_rows,
    ".tsv": _tsv_rows,
    ".jsonl": _json_line_rows,
}
"""How the rows of lines are read: of these formats, each line is read alone. The last argument counts lines before."""


def _whole_text_file(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        yield from LINE_READERS[path.suffix.lower()](path, file, 0)


_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".txt": _whole_text_file,
    ".tsv": _whole_text_file,
    ".csv": _csv_rows,
    ".json": _json_rows,
    ".jsonl": _json_rows,
    ".parquet": _parquet_rows,
}


def _saved_rows(source: str, split: str) -> Iterator[Row]:
    try:
        dataset = datasets.load_from_disk(source)
    # an incomplete folder raises many types of errors
    except Exception as error:
        raise ValueError(f"{source}: cannot be read as a saved dataset: {first_line(error)}") from None
    if isinstance(dataset, datasets.DatasetDict):
        if split not in dataset:
            raise ValueError(f"{source}: no split {split!r}; there are: {', '.join(dataset)}")
        dataset = dataset[split]
    elif split != "train":
        raise ValueError(f"{source}: contains a single dataset, no split {split!r}")
    for number, row in enumerate(dataset):
        yield f"{source}, row {number}", row


def _hub_rows(source: str, split: str, streaming: bool) -> Iterator[Row]:
    try:
        # without a network, load_dataset tries again for half a minute; this request fails at once
        if not huggingface_hub.constants.HF_HUB_OFFLINE:
            huggingface_hub.dataset_info(source, timeout=10)
        dataset = datasets.load_dataset(source, split=split, streaming=streaming)
        for number, row in enumerate(dataset):
            yield f"{source}, row {number}", row
    # many libraries raise their own errors here
    except Exception as error:
        raise ValueError(
            f"{source}: no such file or folder, and split {split!r} of a dataset with this name cannot be loaded"
            f" from the Hub: {type(error).__name__}: {first_line(error)}"
        ) from None
