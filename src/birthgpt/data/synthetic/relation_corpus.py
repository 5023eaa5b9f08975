"""The files of a corpus of several relations: biographies, and questions in two forms.

A `.tsv` of questions has `question TAB answer` in each line. The `.jsonl` beside it has the same rows in the same
order, with the columns `question`, `answer`, `name`, `relation` and `wording` (the template of the question).
"""

import json
import os
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from birthgpt.data.synthetic.checks import checked_folder
from birthgpt.data.synthetic.dataset_card import CARD, corpus_configurations, dataset_card
from birthgpt.data.synthetic.shuffle import write_shuffled
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
        languages: the codes of the languages of the templates, for the card; empty if unknown.

    Raises:
        ValueError: a relation has fewer wordings than the settings say, or `output_dir`
            is a file or contains one of these files already.
    """
    relations = limit_wordings(relations, wordings)
    names = [f"{name}.{ending}" for name in QUESTION_FILES for ending in ("tsv", "jsonl")]
    folder = checked_folder(output_dir, [BIOGRAPHIES, CARD, *names])
    folder.mkdir(parents=True, exist_ok=True)

    def questions(part: range, new: bool = False) -> Iterator[Question]:
        return (row for index in part for row in questions_about(subject_at(index), relations, seed, new))

    with tempfile.TemporaryDirectory(prefix=".biographies-", dir=folder) as scratch:
        lines = _Counted(
            line
            for part in (parts.dev, parts.test_inputs, parts.train)
            for index in part
            for line in lines_about(subject_at(index), relations, biographies, wordings, seed)
        )
        subjects = len(parts.dev) + len(parts.test_inputs) + len(parts.train)
        write_shuffled(Path(scratch, BIOGRAPHIES), lines, subjects * biographies, random.Random(f"{seed}-lines"))
        answers = {
            name: write_questions(Path(scratch, name), rows, answered=name != TEST_INPUTS)
            for name, rows in (
                (TRAIN, questions(parts.train)),
                (DEV, questions(parts.dev)),
                (NEW_WORDINGS, questions(parts.dev, new=True)),
                (LEFT_OUT, questions(parts.left_out)),
                (TEST_INPUTS, questions(parts.test_inputs)),
            )
        }
        card = _card(subjects, [relation.name for relation in relations], seed, answers, languages)
        Path(scratch, CARD).write_text(card, encoding="utf-8")
        for path in sorted(Path(scratch).iterdir()):
            os.replace(path, folder / path.name)
    return RelationCorpus(
        subjects=subjects,
        held_out=len(parts.dev),
        left_out=len(parts.left_out),
        lines=lines.count,
        new_wordings=sum(map(Counter.total, answers[NEW_WORDINGS].values())),
        relations=tuple(count_relation(relation.name, answers) for relation in relations),
    )


def _card(
    subjects: int,
    relations: Sequence[str],
    seed: int,
    answers: dict[str, dict[str, Counter[str]]],
    languages: Sequence[str],
) -> str:
    """The dataset card of the files that have rows."""
    splits = {"train": TRAIN, "dev": DEV, "new_wordings": NEW_WORDINGS, "left_out": LEFT_OUT}
    questions = {split: f"{name}.tsv" for split, name in splits.items() if answers[name]}
    test_inputs = {"test": f"{TEST_INPUTS}.tsv"} if answers[TEST_INPUTS] else {}
    configurations = corpus_configurations(BIOGRAPHIES, questions, test_inputs)
    text = (
        f"Lines about {subjects:,} names, and questions about them: {', '.join(relations)}. They were written by "
        f"birthgpt from templates, with seed {seed}. Nobody of `dev` is in `train`; `new_wordings` asks about the "
        "names of `dev` in other words, and `left_out` about names without a line. The `.jsonl` beside each file of "
        "questions has the same rows, with name, relation and wording."
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


def write_questions(path: Path, rows: Iterator[Question], answered: bool) -> dict[str, Counter[str]]:
    """Write `path`.tsv and `path`.jsonl, unless there are no questions; count the answers of each relation."""
    answers: dict[str, Counter[str]] = {}
    tsv, jsonl = path.with_name(f"{path.name}.tsv"), path.with_name(f"{path.name}.jsonl")
    with (
        open(tsv, "w", encoding="utf-8", newline="\n") as pairs,
        open(jsonl, "w", encoding="utf-8", newline="\n") as objects,
    ):
        for row in rows:
            answers.setdefault(row.relation, Counter())[row.answer] += 1
            columns = dict(vars(row))
            if not answered:
                del columns["answer"]
            pairs.write("\t".join([row.question, row.answer][: 1 + answered]) + "\n")
            objects.write(json.dumps(columns, ensure_ascii=False) + "\n")
    if not answers:
        tsv.unlink()
        jsonl.unlink()
    return answers


def count_relation(relation: str, answers: dict[str, dict[str, Counter[str]]]) -> RelationCounts:
    """The numbers of a relation, from what `write_questions` returned for the files `TRAIN` and `DEV`."""
    train, dev = (answers[name].get(relation, Counter()) for name in (TRAIN, DEV))
    return RelationCounts(
        relation=relation,
        train=train.total(),
        dev=dev.total(),
        answers=len(train | dev),
        most_common_dev_ratio=max(dev.values()) / dev.total() if dev else 0.0,
    )
