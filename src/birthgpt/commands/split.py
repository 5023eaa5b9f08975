"""Folds of questions, to evaluate on several development sets what was tuned on one."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from birthgpt.commands.command import Command
from birthgpt.data.questions import load_questions
from birthgpt.settings import checked, setting
from birthgpt.utils.files import check_output_file, write_text


@checked
@dataclass(kw_only=True)
class SplitSettings:
    """Divide questions into folds: each fold is held out once, while the others are trained on."""

    question_file: str = setting(help="questions with answers")
    output_dir: str = setting(help="folder for fold_1/train.tsv, fold_1/held_out.tsv, fold_2/…")
    folds: int = setting(5, "number of folds, each of which is held out once", min=2)
    seed: int = setting(0, "seed of the order of the questions")


def make_folds(settings: SplitSettings) -> list[Path]:
    """Write the folds, and return their folders. Copies of a question are in the same fold.

    Raises:
        ValueError: the file is wrong, a .tsv cannot contain a question, or there are fewer questions than folds.
    """
    questions = load_questions(settings.question_file)
    rows: dict[str, list[str]] = {}
    for row in questions:
        for cell in (row["question"], row["answer"]):
            if any(character in cell for character in "\t\n\r"):
                raise ValueError(
                    f"{settings.question_file}: {cell!r} contains a tab or line break, which is not possible in a .tsv"
                )
        rows.setdefault(row["question"], []).append(f"{row['question']}\t{row['answer']}\n")
    if settings.folds > len(rows):
        raise ValueError(f"folds={settings.folds}: give at most the number of questions, {len(rows):,}")
    order = np.random.default_rng(settings.seed).permutation(list(rows))
    parts = np.array_split(order, settings.folds)
    check_fold_files(settings)
    folders = []
    for number, held_out in enumerate(parts, start=1):
        folder = Path(settings.output_dir) / f"fold_{number}"
        train = [question for part in parts if part is not held_out for question in part]
        for name, chosen in (("train.tsv", train), ("held_out.tsv", held_out)):
            write_text(folder / name, "".join(line for question in chosen for line in rows[question]))
        folders.append(folder)
    return folders


def check_fold_files(settings: SplitSettings) -> None:
    """Raise ValueError, before the first file is written, for a fold that would replace something else."""
    for number in range(1, settings.folds + 1):
        for name in ("train.tsv", "held_out.tsv"):
            file = Path(settings.output_dir) / f"fold_{number}" / name
            check_output_file(file, {"question_file": settings.question_file})


def show_folders(folders: list[Path]) -> None:
    """Print one folder per line."""
    for folder in folders:
        print(folder)


COMMAND = Command(SplitSettings, make_folds, show_folders, several_processes=False)
