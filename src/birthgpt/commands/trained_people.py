"""Whose questions a checkpoint was trained on, according to `run.json` of its run and of the runs before it."""

import logging
from collections.abc import Iterable
from pathlib import Path

from birthgpt.commands.report_answers import chain_of_runs
from birthgpt.data.names import NameFinder
from birthgpt.data.questions import load_questions
from birthgpt.data.splits import person_of, train_validation_split

logger = logging.getLogger(__name__)

Person = tuple[str, str]


def trained_people(checkpoint: str, train_file: str | None, names: NameFinder | None) -> dict[Person, str]:
    """The people whose questions were trained on, each with the file that has them.

    Held-out questions of a run do not count: they are drawn again by the seed of the run.

    Args:
        train_file: a file whose people all count as trained; if it is given, the runs are not read.
        names: the names of a corpus, to find them in the questions.

    Raises:
        ValueError: a file cannot be read.
    """
    if train_file is not None:
        return _people(load_questions(train_file, names=names), train_file)
    records = chain_of_runs(checkpoint)
    if not records:
        logger.warning("%s has no run.json: give train_file, to check that nobody in it is calibrated on", checkpoint)
    found: dict[Person, str] = {}
    for record in records:
        settings = record["settings"]
        is_finetuning = record["kind"] == "finetuning"
        file = settings.get("train_file" if is_finetuning else "question_file")
        if file is None or (not is_finetuning and not settings.get("question_ratio")):
            continue
        if not Path(file).exists():
            logger.warning(
                "%s, which %s was trained on, is not here: give train_file, to check that nobody in it is calibrated "
                "on",
                file,
                checkpoint,
            )
            continue
        questions = load_questions(file, names=names)
        seed = settings["seed"] if settings.get("data_seed") is None else settings["data_seed"]
        trained, _ = train_validation_split(questions, settings.get("validation_size") or 0, seed)
        found |= _people(trained, file)
    return found


def check_held_out(questions: Iterable[dict], source: str, trained: dict[Person, str]) -> None:
    """Raise ValueError if a question is about a person whose question was trained on."""
    seen = [row for row in questions if person_of(row) in trained]
    if seen:
        raise ValueError(
            f"{source}: {len(seen)} questions are about people whose questions were trained on, first "
            f"{seen[0]['question']!r} (in {trained[person_of(seen[0])]}): calibrate on people that finetuning held out"
        )


def _people(questions: Iterable[dict], file: str) -> dict[Person, str]:
    return {person_of(row): file for row in questions}
