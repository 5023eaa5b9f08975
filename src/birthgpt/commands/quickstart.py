"""Train a model on synthetic people and evaluate it, end to end."""

import logging
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from birthgpt.commands.command import Command
from birthgpt.commands.evaluate import EvaluateSettings, evaluate
from birthgpt.commands.finetune import FinetuneSettings, finetune
from birthgpt.commands.pretrain import PretrainSettings, pretrain
from birthgpt.data.questions import load_questions
from birthgpt.data.synthetic import DEV, TRAIN, WIKI, SyntheticCorpus, SyntheticSettings, write_synthetic_corpus
from birthgpt.settings import checked, flatten_settings, make_settings, parse_settings, setting
from birthgpt.utils.folders import check_all_recorded, check_may_empty, record_files, remove_recorded
from birthgpt.utils.locks import locked
from birthgpt.utils.tables import text_table

logger = logging.getLogger(__name__)

STEPS: dict[str, tuple[type, Callable[[Any], Any]]] = {
    "pretrain": (PretrainSettings, pretrain),
    "finetune": (FinetuneSettings, finetune),
}

QUICKSTART = "quickstart"
"""The kind of the folder in its record (`utils.folders`)."""

RUNS = ["pretrained", "with_pretraining", "without_pretraining"]
ANSWER_FILES = ["evaluation/*/predictions.txt", "evaluation/*/metrics.json"]


@checked
@dataclass(kw_only=True)
class QuickstartSettings:
    """Train and evaluate a model on synthetic people, in a few minutes on two cores."""

    output_dir: str = setting("runs/quickstart", "folder for all files; an earlier quickstart in it is replaced")
    synthetic: SyntheticSettings
    config_dir: str = setting("quickstart", "configurations of the trainings: a name, or a folder")
    seed: int = setting(0, "seed of people and training")
    max_train_flops: float | int | None = setting(None, "FLOPs of pretraining; from the configuration if not given")


def quickstart(settings: QuickstartSettings) -> list[dict]:
    """Write people, pretrain, finetune with and without pretraining, evaluate on held-out people, print a table."""
    folder = Path(settings.output_dir)
    with locked(folder):
        return run_steps(settings, folder)


def run_steps(settings: QuickstartSettings, folder: Path) -> list[dict]:
    """The steps of a quickstart in its folder."""
    started = time.perf_counter()
    corpus = make_people(settings, folder / "people")
    print(
        f"{corpus.people:,} synthetic people from {corpus.places} places in {corpus.lines:,} lines; "
        f"{corpus.held_out} people are held out\n"
    )
    lines, questions = folder / "people" / WIKI, folder / "people" / TRAIN
    flops = [] if settings.max_train_flops is None else ["--max_train_flops", settings.max_train_flops]
    run = Runner(settings, folder)
    run("pretrain", "pretrained", "--train_file", lines, "--question_file", questions, *flops)
    pretrained = ("--model_name_or_path", folder / "pretrained")
    run("finetune", "with_pretraining", "--train_file", questions, *pretrained)
    run("finetune_without_pretraining", "without_pretraining", "--train_file", questions, "--corpus_file", lines)
    rows = [
        run.evaluate("most common place", baseline="most_common"),
        run.evaluate("without pretraining", model_name_or_path=str(folder / "without_pretraining")),
        run.evaluate("with pretraining", model_name_or_path=str(folder / "with_pretraining")),
    ]
    print("\n" + text_table(rows, ["name", "accuracy", "correct", "total"]) + "\n")
    show_answers(folder)
    minutes = (time.perf_counter() - started) / 60
    print(f"\nthe checkpoint that answers: {folder / 'with_pretraining'} ({minutes:.1f} minutes in all)")
    return rows


def make_people(settings: QuickstartSettings, folder: Path) -> SyntheticCorpus:
    """Write the files of synthetic people to a folder; an earlier quickstart in its parent folder is removed.

    Raises:
        ValueError: the output folder is not empty and is no earlier quickstart, or a number is out of its bounds.
    """
    output = folder.parent
    check_may_empty(output, QUICKSTART)
    for name in RUNS:
        check_all_recorded(output / name, output / name)
    # first in a temporary folder, so that an earlier quickstart is kept if there is an error
    with tempfile.TemporaryDirectory() as scratch:
        corpus = write_synthetic_corpus(
            Path(scratch, folder.name),
            seed=settings.seed,
            **flatten_settings(settings.synthetic),
        )
        remove_recorded(output, QUICKSTART)
        files = [f"{folder.name}/{file.name}" for file in Path(scratch, folder.name).iterdir()]
        record_files(output, QUICKSTART, [*files, *ANSWER_FILES], RUNS)
        shutil.copytree(Path(scratch, folder.name), folder, dirs_exist_ok=True)
    return corpus


class Runner:
    """Runs a training with its configuration, and prints the command with which a user can run it."""

    def __init__(self, settings: QuickstartSettings, folder: Path):
        self.settings, self.folder = settings, folder

    def __call__(self, config: str, name: str, *overrides: object) -> None:
        command = config.split("_")[0]
        given = ["--config", f"{self.settings.config_dir}/{config}", *overrides]
        given += ["--output_dir", self.folder / name, "--seed", self.settings.seed]
        arguments = [str(argument) for argument in given]
        print("$ birthgpt", command, *arguments)
        settings_class, run = STEPS[command]
        run(parse_settings(settings_class, arguments))

    def evaluate(self, name: str, **source: str) -> dict:
        """The metrics of a checkpoint, or of a baseline, on the held-out people."""
        people = self.folder / "people"
        metrics = evaluate(
            make_settings(
                EvaluateSettings,
                question_file=str(people / DEV),
                train_file=str(people / TRAIN),
                corpus_file=str(people / WIKI),
                output_dir=str(self.folder / "evaluation" / name.replace(" ", "_")),
                name=name,
                **source,
            )
        )
        assert metrics is not None, "the questions have answers"
        return metrics


def show_answers(folder: Path, count: int = 5) -> None:
    """Print the first answers with their questions."""
    questions = load_questions(str(folder / "people" / DEV))
    predictions = (folder / "evaluation" / "with_pretraining" / "predictions.txt").read_text(encoding="utf-8")
    shown = questions.select(range(min(count, len(questions))))
    for row, prediction in zip(shown, predictions.splitlines(), strict=False):
        verdict = "right" if prediction == row["answer"] else f"wrong, it was {row['answer']}"
        print(f"{row['question']} {prediction} ({verdict})")


COMMAND = Command(QuickstartSettings, quickstart, several_processes=False)
