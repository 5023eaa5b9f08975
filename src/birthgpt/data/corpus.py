"""Biographies: one line a person, with a permanent number and the person's name."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from datasets import Dataset, Features, IterableDataset, Value

from birthgpt.data.sources import check_source, clean_text, get_column, read_rows
from birthgpt.settings import checked, setting

FEATURES = Features({"line_id": Value("int64"), "text": Value("string"), "name": Value("string")})

_ABBREVIATIONS = {"Jr", "Sr", "St", "Dr"}


@checked
@dataclass(kw_only=True)
class CorpusSettings:
    """The text that a model is trained on."""

    train_file: str = setting(help="biographies: a text, JSON, CSV or Parquet file, or a Hub id")
    text_column: str = setting("text", "column of the lines, where the file has columns")
    name_column: str | None = setting(None, "column of the names; read from the line if not given")
    streaming: bool = setting(False, "read the corpus while training, for one larger than memory")


def load_corpus(
    source: str,
    *,
    streaming: bool = False,
    text_column: str = "text",
    name_column: str | None = None,
    split: str = "train",
) -> Dataset | IterableDataset:
    """Read biographies, one a row.

    Args:
        source: a file (.txt, .csv, .json, .jsonl, .parquet) or a glob pattern, a folder of
            `datasets.save_to_disk`, or a dataset id of the Hub.
        streaming: give an `IterableDataset` that reads the source anew in every epoch, in constant memory
            (but for a JSON array, which is read whole). It has one shard, so that `line_id` counts all rows.
        text_column: the column of the biography; that of a .txt is ``text``.
        name_column: the column of the person's name; without it, `read_name` reads it from the line.
        split: which split of a saved `DatasetDict` or of a Hub dataset.

    Returns:
        A dataset in memory, or a stream, with the columns
        `line_id` (int64: the row's number in the source, from 0, over all of its files),
        `text` (without outer white space; rows without text are left out, and keep their number), and
        `name` ("" where there is none).

    Raises:
        ValueError: one line that names the file and the place: a missing or unreadable file, text that is
            not UTF-8, a missing column, a reserved character (``⁇``, ``□``), no text at all. From a stream,
            all but the missing file are raised on reading.
    """
    check_source(source)
    settings: dict[str, Any] = {
        "source": source,
        "streaming": streaming,
        "text_column": text_column,
        "name_column": name_column,
        "split": split,
    }
    if streaming:
        return IterableDataset.from_generator(_lines, features=FEATURES, gen_kwargs=settings)
    return Dataset.from_list(list(_lines(**settings)), features=FEATURES)


def read_name(line: str) -> str | None:
    """The name at the head of a biography: what stands before the first full stop that ends it.

    A full stop with a space after it ends the name, unless it may be a part of it: after a word of one letter
    (`Daniel M. Hausman. …`) or after Jr, Sr, St or Dr. The second of two full stops always ends it (`Sammy
    Davis Jr.. …`).
    """
    for full_stop in re.finditer(r"\. ", line):
        name = line[: full_stop.start()]
        word = re.split(r"[\s.]", name)[-1]
        if name.endswith(".") or (sum(map(str.isalpha, word)) > 1 and word not in _ABBREVIATIONS):
            return name.strip()
    return None


def corpus_report(lines: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Count what is worth knowing of a corpus before training on it.

    Args:
        lines: what `load_corpus` gives. Names are held in memory while a stream is counted.

    Returns:
        `lines`; `lines_without_name`; `names_not_in_line`: lines whose name is another than `read_name` reads
        (only a name column can make one); `names_repeated`: names that more than one line has.
    """
    report = {"lines": 0, "lines_without_name": 0, "names_not_in_line": 0}
    names: Counter[str] = Counter()
    for line in lines:
        report["lines"] += 1
        if not line["name"]:
            report["lines_without_name"] += 1
            continue
        names[line["name"]] += 1
        report["names_not_in_line"] += line["name"] != read_name(line["text"])
    return report | {"names_repeated": sum(count > 1 for count in names.values())}


def lines_by_name(lines: Iterable[dict[str, Any]]) -> dict[str, list[str]]:
    """The text of the lines of each name, in their order."""
    found: dict[str, list[str]] = {}
    for line in lines:
        found.setdefault(line["name"], []).append(line["text"])
    return found


def _lines(
    source: str, streaming: bool, text_column: str, name_column: str | None, split: str
) -> Iterator[dict[str, Any]]:
    empty = True
    for line_id, (where, row) in enumerate(read_rows(source, split=split, streaming=streaming)):
        text = clean_text(where, get_column(where, row, text_column))
        if name_column is None:
            name = read_name(text) or ""
        else:
            name = clean_text(where, get_column(where, row, name_column))
        if text:
            empty = False
            yield {"line_id": line_id, "text": text, "name": name}
    if empty:
        raise ValueError(f"{source}: no text in it")
