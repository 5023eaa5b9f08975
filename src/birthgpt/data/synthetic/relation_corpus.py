"""The files of a corpus of several relations: biographies, and questions in two forms.

A `.tsv` of questions has `question TAB answer` in each line. The `.jsonl` beside it has the same rows in the same
order, with the columns `question`, `answer`, `name`, `relation` and `wording` (the template of the question).
"""

import json
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from birthgpt.data.synthetic.dataset_card import corpus_configurations, dataset_card
from birthgpt.data.synthetic.shards import Piece, pattern_of, write_corpus, write_lines
from birthgpt.data.synthetic.shuffle import MAX_SHUFFLED, line_order, write_shuffled
from birthgpt.data.synthetic.templates import Relation
from birthgpt.data.synthetic.wordings import (
    Question,
    Subject,
    WordingSettings,
    limit_wordings,
    lines_about,
    questions_about,
)

BIOGRAPHIES = "biographies.txt"
TRAIN, DEV, NEW_WORDINGS = "questions_train", "questions_dev", "questions_new_wordings"
LEFT_OUT, TEST_INPUTS = "questions_left_out", "questions_test_inputs"
QUESTION_FILES = (TRAIN, DEV, NEW_WORDINGS, LEFT_OUT, TEST_INPUTS)
"""Names without `.tsv` and `.jsonl`."""


@dataclass(frozen=True)
class Parts:
    """Which subjects are in which files, by index. The people left out have questions, but no biography."""

    train: range
    dev: range
    test_inputs: range = range(0)
    left_out: range = range(0)


@dataclass(frozen=True)
class RelationCounts:
    """The numbers of one relation."""

    relation: str
    train: int  # questions
    dev: int  # questions
    answers: int  # different ones
    most_common_dev_ratio: float  # fraction of dev questions that have the most common dev answer


@dataclass(frozen=True)
class RelationCorpus:
    """The counts of a written corpus."""

    subjects: int  # with a biography
    held_out: int
    left_out: int
    lines: int
    new_wordings: int  # questions in wordings that are never trained on
    relations: tuple[RelationCounts, ...]


def write_relation_corpus(
    output_dir: str | os.PathLike,
    subject_at: Callable[[int], Subject],
    parts: Parts,
    relations: Sequence[Relation],
    *,
    biographies: int,
    wordings: WordingSettings,
    seed: int,
    languages: Sequence[str] = (),
    unique: Sequence[str] = (),
    has_all_facts: bool = False,
    shards: int = 1,
    processes: int = 1,
    settings: Mapping[str, Any] | None = None,
) -> RelationCorpus:
    """Write biographies and questions about subjects. The same arguments write the same bytes.

    `biographies.txt` contains up to `biographies` different lines about every subject but those left out, uniformly
    shuffled. Each other file is a `.tsv` and a `.jsonl` of questions, one question for each known fact:
    `questions_train` (about the subjects in `parts.train`), `questions_dev` (about the held-out subjects in
    `parts.dev`, in trained wordings), `questions_new_wordings` (about the same subjects, in wordings that are never
    trained on), `questions_left_out` (about subjects without a biography), and `questions_test_inputs` (without
    answers). A file without rows is not written. `README.md` is the dataset card. All files appear in `output_dir` when
    they are complete. Subjects are generated one at a time.

    Args:
        subject_at: the subject with an index; several processes need a function that can be pickled.
        languages: the codes of the languages of the templates, for the card; empty if unknown.
        unique: relations in which everybody has another answer. Their answers are not kept to be counted.
        has_all_facts: whether every subject has every fact, and so as many lines as the others. `shards` need that,
            and so does constant memory for more than 12.8 million lines.
        shards: the files into which `biographies.txt` and `questions_train` are divided (`shards.py`).
        processes: how many write shards at the same time.
        settings: what the corpus depends on, by which an unfinished one is recognised.

    Raises:
        ValueError: a relation has fewer wordings than the settings say; `output_dir` is a file, or contains one of
            these files, or an unfinished corpus of other settings; a process was killed.
    """
    corpus = _Files(
        subject_at, parts, limit_wordings(relations, wordings), biographies, wordings, seed, unique, has_all_facts
    )
    counts = write_corpus(
        output_dir,
        corpus,
        corpus.pieces(shards),
        lambda counts: _card(corpus, shards, read_counts(counts), languages),
        names=(BIOGRAPHIES, *(f"{name}.{ending}" for name in QUESTION_FILES for ending in ("tsv", "jsonl"))),
        settings={**(settings or {}), "shards": shards},
        processes=processes,
    )
    lines, answers = sum(counts[BIOGRAPHIES]), read_counts(counts)
    return RelationCorpus(
        subjects=len(corpus.order),
        held_out=len(parts.dev),
        left_out=len(parts.left_out),
        lines=lines,
        new_wordings=sum(found.total for found in answers[NEW_WORDINGS].values()),
        relations=tuple(count_relation(relation.name, answers) for relation in corpus.relations),
    )


@dataclass(frozen=True)
class _Files:
    """The files of the corpus, each of which can be written alone."""

    subject_at: Callable[[int], Subject]
    parts: Parts
    relations: tuple[Relation, ...]
    biographies: int
    wordings: WordingSettings
    seed: int
    unique: Sequence[str]
    has_all_facts: bool

    @property
    def order(self) -> "_Chain":
        """The subjects with lines, by index."""
        return _Chain((self.parts.dev, self.parts.test_inputs, self.parts.train))

    def pieces(self, shards: int) -> list[Piece]:
        """All files, and all shards of the large ones."""
        large = [Piece(file, shard, shards) for file in (BIOGRAPHIES, TRAIN) for shard in range(shards)]
        return large + [Piece(file) for file in QUESTION_FILES if file != TRAIN]

    def write(self, piece: Piece, folder: Path) -> Any:
        """See `shards.Corpus`; counted are lines, or the answers of each relation."""
        path = folder / piece.name
        if piece.file == BIOGRAPHIES:
            return self._write_lines(path, piece)
        part = {
            TRAIN: self.parts.train,
            LEFT_OUT: self.parts.left_out,
            TEST_INPUTS: self.parts.test_inputs,
        }.get(piece.file, self.parts.dev)
        rows = (
            row
            for index in piece.share(part)
            for row in questions_about(self.subject_at(index), self.relations, self.seed, piece.file == NEW_WORDINGS)
        )
        answers = write_questions(path, rows, answered=piece.file != TEST_INPUTS, unique=self.unique)
        return {relation: vars(counted) for relation, counted in answers.items()}

    def _write_lines(self, path: Path, piece: Piece) -> int:
        order, order_seed = self.order, f"{self.seed}-lines"
        expected = len(order) * self.biographies
        if piece.shards == 1 and (expected <= MAX_SHUFFLED or not self.has_all_facts):
            lines = _Counted(line for position in range(len(order)) for line in self._lines_of(position))
            write_shuffled(path, lines, expected, random.Random(order_seed))
            return lines.count
        assert self.has_all_facts
        per_subject = len(self._lines_of(0))
        share = piece.share(range(len(order) * per_subject))
        batches = line_order(len(order) * per_subject, expected, order_seed).batches(share.start, share.stop)
        write_lines(path, batches, per_subject, self._lines_of)
        return len(share)

    def _lines_of(self, position: int, count: int | None = None) -> list[str]:
        """The lines of a subject, or the first `count` of them."""
        subject = self.subject_at(self.order[position])
        return lines_about(subject, self.relations, count or self.biographies, self.wordings, self.seed)


class _Chain:
    """Several ranges one after the other, which are not kept as a list."""

    def __init__(self, ranges: Sequence[range]):
        self._ranges = ranges

    def __len__(self) -> int:
        return sum(map(len, self._ranges))

    def __getitem__(self, position: int) -> int:
        for numbers in self._ranges:
            if position < len(numbers):
                return numbers[position]
            position -= len(numbers)
        raise IndexError(position)


def _card(
    corpus: _Files,
    shards: int,
    answers: Mapping[str, Mapping[str, "Answers"]],
    languages: Sequence[str],
) -> str:
    """The dataset card of the files that have rows."""
    splits = {"train": TRAIN, "dev": DEV, "new_wordings": NEW_WORDINGS, "left_out": LEFT_OUT}
    questions = {
        split: pattern_of(f"{name}.tsv", shards if name == TRAIN else 1)
        for split, name in splits.items()
        if answers[name]
    }
    test_inputs = {"test": f"{TEST_INPUTS}.tsv"} if answers[TEST_INPUTS] else {}
    configurations = corpus_configurations(pattern_of(BIOGRAPHIES, shards), questions, test_inputs)
    relations = ", ".join(relation.name for relation in corpus.relations)
    text = (
        f"Lines about {len(corpus.order):,} names, and questions about them: {relations}. They were written by "
        f"birthgpt from templates, with seed {corpus.seed}. Nobody of `dev` is in `train`; `new_wordings` asks about "
        "the names of `dev` in other words, and `left_out` about names without a line. The `.jsonl` beside each file "
        "of questions has the same rows, with name, relation and wording."
    )
    return dataset_card("Lines and questions from templates", text, configurations, languages)


class _Counted:
    """An iterable that counts what it yielded."""

    def __init__(self, entries: Iterator[str]):
        self.entries, self.count = entries, 0

    def __iter__(self) -> Iterator[str]:
        for entry in self.entries:
            self.count += 1
            yield entry


@dataclass
class Answers:
    """The answers of a relation in a file."""

    total: int = 0
    times: dict[str, int] = field(default_factory=dict)  # by answer; empty if every answer is another one

    def add(self, other: "Answers") -> None:
        """Add those of another file."""
        self.total += other.total
        for answer, count in other.times.items():
            self.times[answer] = self.times.get(answer, 0) + count

    @property
    def different(self) -> int:
        """How many different answers there are."""
        return len(self.times) or self.total

    @property
    def most_common(self) -> int:
        """How often the most common answer is given."""
        return max(self.times.values(), default=min(self.total, 1))


def write_questions(
    path: Path, rows: Iterator[Question], answered: bool, unique: Sequence[str] = ()
) -> dict[str, Answers]:
    """Write `path`.tsv and `path`.jsonl, unless there are no questions; count the answers of each relation.

    Args:
        unique: relations in which every answer is another one; they are only counted.
    """
    answers: dict[str, Answers] = {}
    tsv, jsonl = path.with_name(f"{path.name}.tsv"), path.with_name(f"{path.name}.jsonl")
    with (
        open(tsv, "w", encoding="utf-8", newline="\n") as pairs,
        open(jsonl, "w", encoding="utf-8", newline="\n") as objects,
    ):
        for row in rows:
            answers.setdefault(row.relation, Answers()).add(
                Answers(1, {} if row.relation in unique else {row.answer: 1})
            )
            columns = dict(vars(row))
            if not answered:
                del columns["answer"]
            pairs.write("\t".join([row.question, row.answer][: 1 + answered]) + "\n")
            objects.write(json.dumps(columns, ensure_ascii=False) + "\n")
    if not answers:
        tsv.unlink()
        jsonl.unlink()
    return answers


def read_counts(counts: Mapping[str, list[Any]]) -> dict[str, dict[str, Answers]]:
    """The answers of each file of questions by relation, all shards together."""
    answers: dict[str, dict[str, Answers]] = {}
    for file in QUESTION_FILES:
        answers[file] = {}
        for shard in counts[file]:
            for relation, counted in shard.items():
                answers[file].setdefault(relation, Answers()).add(Answers(**counted))
    return answers


def count_relation(relation: str, answers: Mapping[str, Mapping[str, Answers]]) -> RelationCounts:
    """The numbers of a relation, from what `write_questions` returned for the files `TRAIN` and `DEV`."""
    train, dev = (answers[name].get(relation, Answers()) for name in (TRAIN, DEV))
    everything = Answers()
    everything.add(train)
    everything.add(dev)
    return RelationCounts(
        relation=relation,
        train=train.total,
        dev=dev.total,
        answers=everything.different,
        most_common_dev_ratio=dev.most_common / dev.total if dev.total else 0.0,
    )
