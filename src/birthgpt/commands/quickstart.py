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
from birthgpt.commands.report_answers import METRICS, PREDICTIONS
from birthgpt.data.questions import answers_of, load_questions
from birthgpt.data.synthetic import (
    DEV,
    TRAIN,
    WIKI,
    RelationCorpus,
    RelationSettings,
    SyntheticCorpus,
    SyntheticSettings,
    relation_corpus,
    write_related_people,
    write_synthetic_corpus,
)
from birthgpt.evaluation.metrics import RELATION
from birthgpt.settings import MAX_SEED, checked, flatten_settings, make_settings, parse_settings, setting
from birthgpt.utils.folders import check_all_recorded, check_may_empty, record_files, remove_recorded
from birthgpt.utils.locks import locked
from birthgpt.utils.tables import percent, text_table

logger = logging.getLogger(__name__)

STEPS: dict[str, tuple[type, Callable[[Any], Any]]] = {
    "pretrain": (PretrainSettings, pretrain),
    "finetune": (FinetuneSettings, finetune),
}

QUICKSTART = "quickstart"
"""The kind of the folder in its record (`utils.folders`)."""

RUNS = ["pretrained", "with_pretraining", "without_pretraining"]
WITHOUT, WITH, NEW_WORDINGS = "without pretraining", "with pretraining", "new wordings"
"""What is evaluated; with several relations, also in wordings of questions that are never trained on."""


@checked
@dataclass(kw_only=True)
class QuickstartSettings:
    """Train and evaluate a model on synthetic people, in a few minutes on two cores."""

    output_dir: str = setting("runs/quickstart", "folder for all files; an earlier quickstart in it is replaced")
    synthetic: SyntheticSettings
    relation: RelationSettings
    config_dir: str = setting("quickstart", "configurations of the trainings: a name, or a folder")
    seed: int = setting(0, "seed of people and training", min=0, max=MAX_SEED)
    max_train_flops: float | int | None = setting(
        None, "FLOPs of pretraining; from the configuration if not given", above=0
    )


def quickstart(settings: QuickstartSettings) -> list[dict]:
    """Write people, pretrain, finetune with and without pretraining, evaluate on held-out people, print a table."""
    folder = Path(settings.output_dir)
    with locked(folder):
        return run_steps(settings, folder)


def run_steps(settings: QuickstartSettings, folder: Path) -> list[dict]:
    """The steps of a quickstart in its folder."""
    started = time.perf_counter()
    corpus = make_people(settings, folder / "people")
    print(f"{describe(corpus)}; {corpus.held_out} people are held out\n")
    run = Runner(settings, folder)
    flops = [] if settings.max_train_flops is None else ["--max_train_flops", settings.max_train_flops]
    run("pretrain", "pretrained", "--train_file", run.lines, "--question_file", run.train, *flops)
    pretrained = ("--model_name_or_path", folder / "pretrained")
    run("finetune", "with_pretraining", "--train_file", run.train, *pretrained)
    run("finetune_without_pretraining", "without_pretraining", "--train_file", run.train, "--corpus_file", run.lines)
    rows = [run.evaluate(name, questions, **source) for name, questions, source in evaluations(corpus, run)]
    print("\n" + text_table(rows, ["name", "accuracy", "correct", "total"]) + "\n")
    if by_relation := table_by_relation(rows):
        print(by_relation + "\n")
    show_answers(run)
    minutes = (time.perf_counter() - started) / 60
    print(f"\nthe checkpoint that answers: {folder / 'with_pretraining'} ({minutes:.1f} minutes in all)")
    return rows


def describe(corpus: SyntheticCorpus | RelationCorpus) -> str:
    """What a corpus contains."""
    if isinstance(corpus, RelationCorpus):
        return f"{corpus.subjects:,} synthetic people with {len(corpus.relations)} relations in {corpus.lines:,} lines"
    return f"{corpus.people:,} synthetic people from {corpus.places} places in {corpus.lines:,} lines"


def make_people(settings: QuickstartSettings, folder: Path) -> SyntheticCorpus | RelationCorpus:
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
        corpus = write_people(settings, Path(scratch, folder.name))
        remove_recorded(output, QUICKSTART)
        files = [f"{folder.name}/{file.name}" for file in Path(scratch, folder.name).iterdir()]
        record_files(output, QUICKSTART, files, RUNS)
        shutil.copytree(Path(scratch, folder.name), folder, dirs_exist_ok=True)
    return corpus


def write_people(settings: QuickstartSettings, folder: Path) -> SyntheticCorpus | RelationCorpus:
    """Write the files of synthetic people: birthplaces alone, or the relations of the settings."""
    if settings.relation.relations is None:
        return write_synthetic_corpus(folder, seed=settings.seed, **flatten_settings(settings.synthetic))
    return write_related_people(folder, settings.synthetic, settings.relation, seed=settings.seed)


class Runner:
    """Runs a training with its configuration, and prints the command with which a user can run it."""

    def __init__(self, settings: QuickstartSettings, folder: Path):
        self.settings, self.folder = settings, folder
        people = folder / "people"
        self.lines, self.train, self.dev = people / WIKI, people / TRAIN, people / DEV
        self.new_wordings = people / f"{relation_corpus.NEW_WORDINGS}.jsonl"
        if settings.relation.relations is not None:
            self.lines = people / relation_corpus.BIOGRAPHIES
            self.train, self.dev = (people / f"{name}.jsonl" for name in (relation_corpus.TRAIN, relation_corpus.DEV))

    def __call__(self, config: str, name: str, *overrides: object) -> None:
        command = config.split("_")[0]
        given = ["--config", f"{self.settings.config_dir}/{config}", *overrides]
        given += ["--output_dir", self.folder / name, "--seed", self.settings.seed]
        arguments = [str(argument) for argument in given]
        print("$ birthgpt", command, *arguments)
        settings_class, run = STEPS[command]
        run(parse_settings(settings_class, arguments))

    def evaluate(self, name: str, questions: Path, **source: str) -> dict:
        """The metrics of a checkpoint, or of a baseline, on questions about the held-out people."""
        folder = self.answers(name)
        files = [(folder / file).relative_to(self.folder).as_posix() for file in (PREDICTIONS, METRICS)]
        record_files(self.folder, QUICKSTART, files)
        metrics = evaluate(
            make_settings(
                EvaluateSettings,
                question_file=str(questions),
                train_file=str(self.train),
                corpus_file=str(self.lines),
                output_dir=str(folder),
                name=name,
                **source,
            )
        )
        assert metrics is not None, "the questions have answers"
        return metrics

    def answers(self, name: str) -> Path:
        """The folder of an evaluation."""
        return self.folder / "evaluation" / name.replace(" ", "_")

    def predictions(self, name: str) -> list[str]:
        """The answers of an evaluation, in the order of its questions."""
        return (self.answers(name) / PREDICTIONS).read_text(encoding="utf-8").splitlines()


def evaluations(corpus: SyntheticCorpus | RelationCorpus, run: Runner) -> list[tuple[str, Path, dict[str, str]]]:
    """What is evaluated: a name, the questions, and what answers them."""
    models = {name: {"model_name_or_path": str(run.folder / name.replace(" ", "_"))} for name in (WITHOUT, WITH)}
    several = isinstance(corpus, RelationCorpus)
    return [
        ("most common answer" if several else "most common place", run.dev, {"baseline": "most_common"}),
        *((name, run.dev, model) for name, model in models.items()),
        *([(NEW_WORDINGS, run.new_wordings, models[WITH])] if several else []),
    ]


def table_by_relation(evaluated: list[dict]) -> str | None:
    """The accuracy of each evaluation for each relation; None if there is one relation."""
    relations = evaluated[0]["slices"].get(RELATION)
    if relations is None:
        return None
    rows = [
        {
            RELATION: relation,
            **{row["name"]: percent(row["slices"][RELATION][relation]["accuracy"]) for row in evaluated},
        }
        for relation in relations
    ]
    return "accuracy (%) by relation\n\n" + text_table(rows, list(rows[0]))


def show_answers(run: Runner, count: int = 5) -> None:
    """Print the first answers with their questions."""
    questions = load_questions(str(run.dev))
    shown = questions.select(range(min(count, len(questions))))
    for row, prediction in zip(shown, run.predictions(WITH), strict=False):
        verdict = "right" if prediction in answers_of(row) else f"wrong, it was {row['answer']}"
        print(f"{row['question']} {prediction} ({verdict})")


COMMAND = Command(QuickstartSettings, quickstart, several_processes=False)
