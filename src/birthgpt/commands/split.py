"""Folds of questions: what was tuned on one development set, tried on others."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from birthgpt.data.questions import load_questions
from birthgpt.training.arguments import setting
from birthgpt.utils.files import write_text


@dataclass
class SplitArguments:
    """Questions, and into how many parts."""

    question_file: str = field(metadata={"help": "questions with answers"})
    output_dir: str = field(metadata={"help": "folder for fold_1/train.tsv, fold_1/held_out.tsv, fold_2/…"})
    folds: int = setting(5, "parts, each of which is held out once")
    seed: int = setting(0, "of the order in which questions are dealt out")


def split_questions(arguments: SplitArguments) -> list[Path]:
    """Write the folds, and return their folders. Questions that occur twice stay together.

    Raises:
        ValueError: what is wrong with the questions, one that a .tsv cannot hold, or not as many as folds.
    """
    questions = load_questions(arguments.question_file)
    rows: dict[str, list[str]] = {}
    for row in questions:
        for cell in (row["question"], row["answer"]):
            if any(character in cell for character in "\t\n\r"):
                raise ValueError(
                    f"{arguments.question_file}: {cell!r} holds a tab or line break: no cell of a .tsv may"
                )
        rows.setdefault(row["question"], []).append(f"{row['question']}\t{row['answer']}\n")
    if not 2 <= arguments.folds <= len(rows):
        raise ValueError(f"folds={arguments.folds}: give a number from 2 to that of the questions, {len(rows):,}")
    order = np.random.default_rng(arguments.seed).permutation(list(rows))
    parts = np.array_split(order, arguments.folds)
    folders = []
    for number, held_out in enumerate(parts, start=1):
        folder = Path(arguments.output_dir) / f"fold_{number}"
        train = [question for part in parts if part is not held_out for question in part]
        for name, chosen in (("train.tsv", train), ("held_out.tsv", held_out)):
            write_text(folder / name, "".join(line for question in chosen for line in rows[question]))
        folders.append(folder)
    return folders
