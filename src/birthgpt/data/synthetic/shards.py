"""Corpora in shards, written by several processes.

The lines and the questions to train on are divided into files such as `wiki-00000-of-00016.txt`, the form that
`datasets` uses. One process writes a shard whole. The joined shards are the file that is written without shards.

Until all of them are complete, they are in the folder `.unfinished` in `output_dir`, with a record of the settings. So
a writer that was killed leaves no file of the corpus, and a second call with the same settings writes what is missing.
"""

import filecmp
import json
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePath
from typing import Any, Protocol

from birthgpt.data.synthetic.checks import check_whole_number, checked_folder
from birthgpt.data.synthetic.dataset_card import CARD
from birthgpt.settings import checked, setting
from birthgpt.utils.files import read_json, save_json
from birthgpt.utils.locks import locked

MAX_SHARDS = 99_999
UNFINISHED, RECORD, COUNTS = ".unfinished", "settings.json", ".counts.json"


@checked
@dataclass(kw_only=True)
class ShardSettings:
    """Files and processes of a large corpus."""

    shards: int = setting(
        1, "files that the lines are divided into, and so are the questions to train on", min=1, max=MAX_SHARDS
    )
    processes: int = setting(1, "processes, each of which writes one shard at a time; at most `shards`", min=1)


@dataclass(frozen=True)
class Piece:
    """A file of a corpus, or one shard of it. A `file` without a suffix stands for several files of the same rows."""

    file: str
    shard: int = 0
    shards: int = 1

    @property
    def name(self) -> str:
        """The name of the shard: `wiki.txt` → `wiki-00000-of-00016.txt`."""
        path = PurePath(self.file)
        return f"{path.stem}-{self.shard:05d}-of-{self.shards:05d}{path.suffix}" if self.shards > 1 else self.file

    def share(self, entries: range) -> range:
        """What of all entries of the file is in this shard."""
        first, end = (len(entries) * number // self.shards for number in (self.shard, self.shard + 1))
        return entries[first:end]


class Corpus(Protocol):
    """What is written. It is pickled, and sent to each process."""

    def write(self, piece: Piece, folder: Path) -> Any:
        """Write the files of a piece, and return what is counted in them, as JSON expresses it."""


def pattern_of(file: str, shards: int) -> str:
    """The file, or the glob pattern of its shards: `wiki.txt` → `wiki-*-of-00016.txt`."""
    path = PurePath(file)
    return f"{path.stem}-*-of-{shards:05d}{path.suffix}" if shards > 1 else file


def check_shards(shards: int, processes: int, people: int) -> None:
    """Raise ValueError unless each shard has somebody of the `people` to train on, and each process a shard."""
    check_whole_number("shards", shards, 1, min(people, MAX_SHARDS))
    if processes > shards:
        raise ValueError(f"processes={processes}: {shards} can write, because each writes whole shards: raise shards")
    check_whole_number("processes", processes, 1, shards)


def write_corpus(
    output_dir: str | os.PathLike,
    corpus: Corpus,
    pieces: Iterable[Piece],
    card: Callable[[Mapping[str, list[Any]]], str],
    *,
    names: Iterable[str],
    settings: Mapping[str, Any],
    processes: int,
) -> dict[str, list[Any]]:
    """Write the files of a corpus, which appear in `output_dir` when all of them are complete; return their counts.

    Args:
        corpus: writes a piece.
        pieces: what is written.
        card: from the counts to the text of the dataset card.
        names: all files that the corpus could have; none of them may exist.
        settings: what the pieces depend on. An unfinished corpus is completed if its settings are the same.
        processes: how many write; 1: this one.

    Returns:
        Each file → what `corpus.write` returned for its shards, in their order.

    Raises:
        ValueError: `output_dir` is a file, contains one of the files, contains an unfinished corpus of other settings,
            or is in use; or a process was killed.
    """
    pieces = list(pieces)
    names = [*names, CARD]
    with _scratch(Path(output_dir), names, settings, max(piece.shards for piece in pieces)) as (folder, scratch):
        if processes == 1:
            found = [_write(corpus, piece, scratch) for piece in pieces]
        else:
            found = _write_in_processes(corpus, pieces, scratch, processes)
        counts: dict[str, list[Any]] = {}
        for piece, counted in zip(pieces, found, strict=True):
            counts.setdefault(piece.file, []).append(counted)
        (scratch / CARD).write_text(card(counts), encoding="utf-8")
        written = [path.name for path in scratch.iterdir() if path.name != RECORD and not path.name.endswith(COUNTS)]
        # the card comes last: with it the corpus is complete
        for name in sorted(written, key=lambda name: (name == CARD, name)):
            # a writer that was killed at this point has left the same file
            if os.path.lexists(folder / name) and not filecmp.cmp(scratch / name, folder / name, shallow=False):
                raise ValueError(f"output_dir: {folder / name} appeared while it was written: remove it")
            os.replace(scratch / name, folder / name)
    return counts


def write_lines(
    path: Path, batches: Iterable[list[int]], per_subject: int, lines_of: Callable[[int, int], list[str]]
) -> None:
    """Write lines by their numbers, in the order of the numbers.

    Args:
        batches: the numbers. Line n is the line n mod `per_subject` of the subject n // `per_subject`.
        lines_of: `(subject, count)` → its first lines, at least `count`.
    """
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for numbers in batches:
            texts: dict[int, str] = {}
            for subject, group in groupby(sorted(numbers), lambda number: number // per_subject):
                wanted = list(group)
                first = subject * per_subject
                lines = lines_of(subject, wanted[-1] - first + 1)
                texts.update((number, lines[number - first]) for number in wanted)
            file.writelines(f"{texts[number]}\n" for number in numbers)


@contextmanager
def _scratch(
    folder: Path, names: Iterable[str], settings: Mapping[str, Any], shards: int
) -> Iterator[tuple[Path, Path]]:
    """The folder, and the folder in it for unfinished files; without shards, nothing of it stays after an error."""
    unfinished = folder / UNFINISHED
    if shards == 1:
        checked_folder(folder, [*names, UNFINISHED])
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".people-", dir=folder) as scratch:
            yield folder, Path(scratch)
        return
    if not os.path.lexists(unfinished):
        checked_folder(folder, names)
    with locked(folder):
        _check_unfinished(unfinished, json.loads(json.dumps(settings)))
        yield folder, unfinished
        shutil.rmtree(unfinished)


def _check_unfinished(unfinished: Path, settings: Mapping[str, Any]) -> None:
    """Make the folder with its record; a ValueError if it is there with another one."""
    record = unfinished / RECORD
    if os.path.lexists(record):
        started = read_json(record)
        for name in sorted({*started, *settings}):
            if started.get(name) != settings.get(name):
                raise ValueError(
                    f"output_dir: {unfinished} is an unfinished corpus with {name}={started.get(name)!r}, not "
                    f"{settings.get(name)!r}: repeat its settings to complete it, remove it, or name another folder"
                )
        return
    if os.path.lexists(unfinished) and (
        unfinished.is_symlink() or not unfinished.is_dir() or any(unfinished.iterdir())
    ):
        raise ValueError(f"output_dir: {unfinished} has no {RECORD}, so it cannot be completed: remove it")
    unfinished.mkdir(exist_ok=True)
    save_json(record, dict(settings))


def _write(corpus: Corpus, piece: Piece, scratch: Path) -> Any:
    """Write a piece, unless it is complete; its counts are written last."""
    counts = scratch / f"{piece.name}{COUNTS}"
    if counts.is_file():
        return read_json(counts)["counts"]
    counted = corpus.write(piece, scratch)
    save_json(counts, {"counts": counted})
    return counted


def _write_in_processes(corpus: Corpus, pieces: list[Piece], scratch: Path, processes: int) -> list[Any]:
    """The counts of all pieces. If one of them fails, or this process is stopped, the other processes are stopped."""
    others = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(
        processes, mp_context=multiprocessing.get_context("spawn"), initializer=_start_writer, initargs=(corpus,)
    )
    try:
        futures = [executor.submit(_write_received, piece, scratch) for piece in pieces]
        for future in as_completed(futures):
            future.result()
        executor.shutdown()
    except BrokenProcessPool:
        raise ValueError(
            f"{scratch.parent}: a process that wrote a shard was ended from outside, perhaps for its memory: "
            "repeat the command, which writes what is missing"
        ) from None
    finally:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        executor.shutdown(cancel_futures=True)
    return [future.result() for future in futures]


_received: list[Corpus] = []
"""The corpus of a process that writes for another one."""


def _start_writer(corpus: Corpus) -> None:
    """Prepare a process: it ends with its parent, which alone is told of Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _received.append(corpus)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _write_received(piece: Piece, scratch: Path) -> Any:
    return _write(_received[-1], piece, scratch)
