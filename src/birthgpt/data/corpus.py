"""Biographies: each line has a permanent number and the name of a person."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset, Features, IterableDataset, Value

from birthgpt.data.names import name_key, normalize, odd_names, read_name, split_name, with_name
from birthgpt.data.shards import Counts, Shard, count_rows, find_shards, number_shards, read_shard
from birthgpt.data.sources import check_source, clean_text, get_column
from birthgpt.settings import checked, setting

FEATURES = Features({"line_id": Value("int64"), "text": Value("string"), "name": Value("string")})

CountShards = Callable[[Sequence[Shard]], Sequence[Counts]]
"""Counts the lines and the rows of shards."""


def count_shards(shards: Sequence[Shard]) -> list[Counts]:
    """The lines and the rows of each shard, counted in this process."""
    return [count_rows(shard) for shard in shards]


@checked
@dataclass(kw_only=True)
class ColumnSettings:
    """Where a corpus has its lines and names."""

    text_column: str = setting("text", "column of the lines, if the corpus has columns")
    name_column: str | None = setting(None, "column of the names; read from the line if not given")

    def read_lines(
        self, source: str, *, streaming: bool = False, count: CountShards = count_shards
    ) -> Dataset | IterableDataset:
        """The corpus, as `load_corpus` reads it with these columns."""
        return load_corpus(
            source, streaming=streaming, text_column=self.text_column, name_column=self.name_column, count=count
        )


@checked
@dataclass(kw_only=True)
class CorpusSettings(ColumnSettings):
    """The text that a model is trained on."""

    train_file: str = setting(help="biographies: a text, JSON, CSV or Parquet file, or a Hub id")
    streaming: bool = setting(False, "read the corpus while training, for a corpus that is larger than memory")

    def read_train_file(self, count: CountShards = count_shards) -> Dataset | IterableDataset:
        """The lines of `train_file`."""
        return self.read_lines(self.train_file, streaming=self.streaming, count=count)


def load_corpus(
    source: str,
    *,
    streaming: bool = False,
    text_column: str = "text",
    name_column: str | None = None,
    split: str = "train",
    count: CountShards = count_shards,
) -> Dataset | IterableDataset:
    """Read biographies, one per row.

    Args:
        source: a file (.txt, .csv, .json, .jsonl, .parquet) or a glob pattern, a folder of
            `datasets.save_to_disk`, or a dataset id of the Hub.
        streaming: return an `IterableDataset` that reads the source again in every epoch, in constant memory
            (except a JSON array, which is read completely). Its shards are those of `shards.find_shards`.
        text_column: the column of the biography; ``text`` for a .txt file.
        name_column: the column of the person's name; if None, `names.read_name` reads the name from the line.
        split: the split of a saved `DatasetDict` or of a Hub dataset.
        count: counts the rows of the shards of a stream that has several; processes can do it together.

    Returns:
        A dataset in memory, or a stream, with the columns
        `line_id` (int64: the row's number in the source, from 0, over all of its files),
        `text` (normalised as `names.normalize_text` does, and its name as `names.normalize` does; rows without text are
        left out, but they are counted), and `name` ("" if there is none).

    Raises:
        ValueError: one line that names the file and the place: a missing or unreadable file, text that is
            not UTF-8, a missing column, a reserved character (``⁇``, ``␃``, ``□``, ``␀``), no text at all. A stream
            raises those of single lines when it is read.
    """
    check_source(source, split=split)
    settings: dict[str, Any] = {
        "source": source,
        "streaming": streaming,
        "text_column": text_column,
        "name_column": name_column,
        "split": split,
    }
    if not streaming:
        return Dataset.from_list(list(_lines([Shard(source)], **settings)), features=FEATURES)
    shards = find_shards(source)
    shards = number_shards(shards, count(shards)) if len(shards) > 1 else [Shard(source)]
    if not shards:
        raise ValueError(f"{source}: no text in it")
    return IterableDataset.from_generator(_lines, features=FEATURES, gen_kwargs={"shards": shards, **settings})


def corpus_report(lines: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Count the lines and names of a corpus, to check it before training.

    Args:
        lines: the corpus, as `load_corpus` returns it. The names of a stream are kept in memory.

    Returns:
        `lines`; `lines_without_name`; `names_not_in_line`: lines whose name is not the name that `read_name` reads
        (only possible with a name column); `names_repeated`: names of more than one line; the names that look odd, as
        `odd_names` finds them.
    """
    report = {"lines": 0, "lines_without_name": 0, "names_not_in_line": 0}
    names: Counter[str] = Counter()
    for line in lines:
        report["lines"] += 1
        if not line["name"]:
            report["lines_without_name"] += 1
            continue
        names[line["name"]] += 1
        report["names_not_in_line"] += name_key(line["name"]) != name_key(read_name(line["text"]) or "")
    odd = {kind: len(found) for kind, found in odd_names(names).items()}
    return report | {"names_repeated": sum(count > 1 for count in names.values())} | odd


def lines_by_name(lines: Iterable[dict[str, Any]]) -> dict[str, list[str]]:
    """The texts of the lines of each name, in order."""
    found: dict[str, list[str]] = {}
    for line in lines:
        found.setdefault(line["name"], []).append(line["text"])
    return found


def _lines(
    shards: list[Shard], source: str, streaming: bool, text_column: str, name_column: str | None, split: str
) -> Iterator[dict[str, Any]]:
    empty = True
    for shard in shards:
        rows = read_shard(shard, split=split, streaming=streaming)
        for line_id, (where, row) in enumerate(rows, start=shard.rows):
            text = clean_text(where, get_column(where, row, text_column))
            if name_column is None:
                name, text = split_name(text)
            else:
                name = normalize(clean_text(where, get_column(where, row, name_column)))
                text = with_name(text, name)
            if text:
                empty = False
                yield {"line_id": line_id, "text": text, "name": name}
    # datasets reads one shard at a time, and another one may have text
    if empty and [shard.source for shard in shards if shard.stop is None] == [source]:
        raise ValueError(f"{source}: no text in it")
