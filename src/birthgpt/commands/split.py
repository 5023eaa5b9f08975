"""Folds of questions, to evaluate on several development sets what was tuned on one."""

from dataclasses import dataclass
from pathlib import Path

from birthgpt.commands.command import Command
from birthgpt.commands.unused_settings import unused_columns, warn_unused
from birthgpt.data.corpus import ColumnSettings
from birthgpt.data.names import NameFinder
from birthgpt.data.question_files import form_of
from birthgpt.data.questions import COLUMNS, load_question_rows, questions_of
from birthgpt.data.splits import divide_people, warn_unknown_people
from birthgpt.settings import checked, setting
from birthgpt.utils.files import check_output_file, write_text


@checked
@dataclass(kw_only=True)
class SplitSettings(ColumnSettings):
    """Divide questions by person into folds: each fold is held out once, while the others are trained on."""

    question_file: str = setting(help="questions with answers")
    corpus_file: str | None = setting(None, "biographies, whose names are looked for in the questions")
    output_dir: str = setting(
        help="folder for fold_1/train.tsv, fold_1/held_out.tsv, fold_2/…; .jsonl if the questions have more columns"
    )
    folds: int = setting(5, "number of folds, each of which is held out once", min=2)
    seed: int = setting(0, "seed of the order of the people", min=0)


def make_folds(settings: SplitSettings) -> list[Path]:
    """Write the folds, and return their folders. All questions about a person are in the same fold.

    The files have the columns of `question_file`: see `question_files.form_of`.

    Raises:
        ValueError: the file is wrong, or there are fewer people than folds.
    """
    warn_unused(settings, unused_columns(settings.corpus_file))
    names = None
    if settings.corpus_file is not None:
        names = NameFinder(row["name"] for row in settings.read_lines(settings.corpus_file))
    rows = load_question_rows(settings.question_file)
    questions = questions_of(settings.question_file, rows, names)
    warn_unknown_people(settings.question_file, questions)
    parts = divide_people(questions, settings.folds, settings.seed)
    form = form_of(settings.question_file, rows, COLUMNS)
    check_fold_files(settings, form.suffix)
    # what cannot be written is an error before the first file
    form.text(rows)
    folders = []
    for number, held_out in enumerate(parts, start=1):
        folder = Path(settings.output_dir) / f"fold_{number}"
        train = [row for part in parts if part is not held_out for row in part]
        for name, chosen in (("train", train), ("held_out", held_out)):
            write_text(folder / f"{name}{form.suffix}", form.text([rows[row] for row in chosen]))
        folders.append(folder)
    return folders


def check_fold_files(settings: SplitSettings, suffix: str) -> None:
    """Raise ValueError, before the first file is written, for a fold that would replace something else."""
    for number in range(1, settings.folds + 1):
        for name in ("train", "held_out"):
            file = Path(settings.output_dir) / f"fold_{number}" / f"{name}{suffix}"
            check_output_file(file, {"question_file": settings.question_file})


def show_folders(folders: list[Path]) -> None:
    """Print one folder per line."""
    for folder in folders:
        print(folder)


COMMAND = Command(SplitSettings, make_folds, show_folders, several_processes=False)
