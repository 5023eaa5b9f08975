"""Train a model on synthetic people and evaluate it, end to end."""

import io
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from birthgpt.commands.answer_rows import ANSWERS
from birthgpt.commands.command import Command
from birthgpt.commands.evaluate import EvaluateSettings, evaluate
from birthgpt.commands.finetune import FinetuneSettings, finetune
from birthgpt.commands.pretrain import PretrainSettings, pretrain
from birthgpt.commands.report_answers import METRICS, PREDICTIONS
from birthgpt.data.questions import answers_of, load_questions
from birthgpt.data.synthetic import (
    RELATIONS,
    RelationCorpus,
    RelationSettings,
    SyntheticSettings,
    relation_corpus,
    write_related_people,
)
from birthgpt.evaluation.metrics import RELATION
from birthgpt.settings import MAX_SEED, checked, make_settings, parse_settings, setting, with_default
from birthgpt.training.state import BudgetSettings
from birthgpt.utils.folders import check_all_recorded, check_may_empty, record_files, remove_recorded
from birthgpt.utils.locks import locked
from birthgpt.utils.tables import percent, text_table

COMMANDS: dict[str, tuple[type, Callable[[Any], Any]]] = {
    "pretrain": (PretrainSettings, pretrain),
    "finetune": (FinetuneSettings, finetune),
}

QUICKSTART = "quickstart"
"""The kind of the folder in its record (`utils.folders`)."""

PEOPLE, PRETRAINED = "people", "pretrained"
MOST_COMMON, WITHOUT, WITH = "most common answer", "without pretraining", "with pretraining"
NEW_WORDINGS = "new wordings"
"""What is evaluated; new wordings of questions are asked after pretraining, and are never trained on."""


def folder_name(name: str) -> str:
    """The folder of what is trained or evaluated under this name."""
    return name.replace(" ", "_")


TRAININGS = {
    PRETRAINED: "pretrain",
    folder_name(WITH): "finetune",
    folder_name(WITHOUT): "finetune_without_pretraining",
}
"""The trainings in order: a folder, and its configuration, whose first word is the command."""


@checked
@dataclass(kw_only=True)
class FewPeople(SyntheticSettings):
    """So few that a model can learn all of them in a few minutes."""

    people: int = with_default(SyntheticSettings, "people", 400)
    held_out: int = with_default(SyntheticSettings, "held_out", 100)


@checked
@dataclass(kw_only=True)
class FewRelations(RelationSettings):
    """Relations with answers of different form: a place, perhaps with a comma; a date; words in lower case."""

    relations: list[str] = setting(
        ["birthplace", "birth_date", "occupation"], f"all, or some of {', '.join(RELATIONS)}"
    )


@checked
@dataclass(kw_only=True)
class QuickstartSettings:
    """Train and evaluate a model on synthetic people, in a few minutes on two cores."""

    output_dir: str = setting("runs/quickstart", "folder for all files; an earlier quickstart in it is replaced")
    synthetic: FewPeople
    relation: FewRelations
    config_dir: str = setting("quickstart", "configurations of the trainings: a name, or a folder")
    seed: int = setting(0, "seed of people and training", min=0, max=MAX_SEED)
    max_train_flops: float | int | None = setting(
        None, "FLOPs of pretraining; from the configuration if not given", above=0
    )


def quickstart(settings: QuickstartSettings) -> list[dict]:
    """Write people, pretrain, finetune with and without pretraining, evaluate on held-out people, print a table.

    Returns:
        The metrics of each evaluation.

    Raises:
        ValueError: the folder is no earlier quickstart, or a setting or a configuration is wrong. It is raised before
            an earlier quickstart is removed.
    """
    folder = Path(settings.output_dir)
    with locked(folder):
        return run_steps(settings, folder)


def run_steps(settings: QuickstartSettings, folder: Path) -> list[dict]:
    """The steps of a quickstart in its folder."""
    started = time.perf_counter()
    with new_people(settings, folder) as (corpus, scratch):
        rehearse(settings, scratch)
    print(f"{describe(corpus)}; {corpus.held_out} people are held out\n")
    run = Runner(settings, folder)
    for name in TRAININGS:
        run.train(name)
    rows = [run.evaluate(name) for name in (MOST_COMMON, WITHOUT, WITH, NEW_WORDINGS)]
    print(f"\naccuracy (%) on {rows[0]['total']} questions about the held-out people\n")
    print(accuracy_table(corpus, rows) + "\n")
    show_answers(run, count=2 * len(corpus.relations))
    minutes = (time.perf_counter() - started) / 60
    print(f"\nthe checkpoint that answers: {folder / folder_name(WITH)} ({minutes:.1f} minutes in all)")
    return rows


def describe(corpus: RelationCorpus) -> str:
    """What a corpus contains."""
    relations = ", ".join(relation.relation for relation in corpus.relations)
    return f"{corpus.lines:,} biographies of {corpus.subjects:,} synthetic people ({relations})"


@contextmanager
def new_people(settings: QuickstartSettings, folder: Path) -> Iterator[tuple[RelationCorpus, Path]]:
    """Write the files of new people to a temporary folder; after the block, they replace an earlier quickstart.

    Yields:
        The counts of the corpus, and the temporary folder. If the block raises an error, an earlier quickstart stays.

    Raises:
        ValueError: the folder is not empty and is no earlier quickstart, or a number is out of its bounds.
    """
    check_may_empty(folder, QUICKSTART)
    for name in TRAININGS:
        check_all_recorded(folder / name, folder / name)
    with tempfile.TemporaryDirectory() as scratch:
        people = Path(scratch, PEOPLE)
        corpus = write_related_people(people, settings.synthetic, settings.relation, seed=settings.seed)
        files = [f"{PEOPLE}/{file.name}" for file in people.iterdir()]
        yield corpus, Path(scratch)
        remove_recorded(folder, QUICKSTART)
        record_files(folder, QUICKSTART, files, TRAININGS)
        shutil.copytree(people, folder / PEOPLE, dirs_exist_ok=True)


def rehearse(settings: QuickstartSettings, scratch: Path) -> None:
    """Run every training for one update in a folder of people, so that what is wrong is found before the work.

    Raises:
        ValueError: a configuration is missing, or a training is refused.
    """
    run = Runner(settings, scratch)
    trainings = {}
    for name in TRAININGS:
        with naming_config(run, name):
            trainings[name] = run.parse(name)
    for name, (parsed, train) in trainings.items():
        parsed.training.budget = BudgetSettings(max_train_steps=1)
        parsed.validation.eval_steps = 0
        with naming_config(run, name), silence():
            train(parsed)
            if not (run.folder / name / "config.json").is_file():
                raise ValueError("it trains no model in its folder: leave out dry_run, seeds and learning_rates")


@contextmanager
def naming_config(run: "Runner", name: str) -> Iterator[None]:
    """Context of a rehearsal: an error names the configuration, and files by their names in the quickstart."""
    try:
        yield
    except ValueError as error:
        text, config = str(error).replace(str(run.folder), run.settings.output_dir), run.config(name)
        raise ValueError(text if text.startswith(config) else f"{config}: {text}") from None


@contextmanager
def silence() -> Iterator[None]:
    """Show neither logs nor output nor bars of progress in the block."""
    level, nowhere = logging.root.manager.disable, io.StringIO()
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stdout(nowhere), redirect_stderr(nowhere):
            yield
    finally:
        logging.disable(level)


class Runner:
    """Runs trainings with their configurations, and evaluations, in the folder of a quickstart.

    Args:
        settings: the settings of the quickstart.
        folder: contains the files of people; each training and evaluation gets a folder in it.
    """

    def __init__(self, settings: QuickstartSettings, folder: Path):
        self.settings, self.folder = settings, folder
        people = folder / PEOPLE
        self.lines = people / relation_corpus.BIOGRAPHIES
        self.questions, self.dev, self.new_wordings = (
            people / f"{name}.jsonl"
            for name in (relation_corpus.TRAIN, relation_corpus.DEV, relation_corpus.NEW_WORDINGS)
        )

    def train(self, name: str) -> None:
        """Run a training, and print the command with which a user can run it."""
        print("$ birthgpt", TRAININGS[name].split("_")[0], *self.arguments(name))
        settings, train = self.parse(name)
        train(settings)

    def parse(self, name: str) -> tuple[Any, Callable[[Any], Any]]:
        """The settings of a training, and the function that takes them."""
        settings_class, train = COMMANDS[TRAININGS[name].split("_")[0]]
        return parse_settings(settings_class, self.arguments(name)), train

    def config(self, name: str) -> str:
        """The configuration of a training."""
        return f"{self.settings.config_dir}/{TRAININGS[name]}"

    def arguments(self, name: str) -> list[str]:
        """The command line of a training."""
        flops = self.settings.max_train_flops
        sources: dict[str, list] = {
            PRETRAINED: [
                *("--train_file", self.lines, "--question_file", self.questions),
                *([] if flops is None else ["--max_train_flops", flops]),
            ],
            folder_name(WITH): ["--train_file", self.questions, "--model_name_or_path", self.folder / PRETRAINED],
            folder_name(WITHOUT): ["--train_file", self.questions, "--corpus_file", self.lines],
        }
        given = ["--config", self.config(name), *sources[name]]
        return [str(value) for value in (*given, "--output_dir", self.folder / name, "--seed", self.settings.seed)]

    def evaluate(self, name: str) -> dict:
        """The metrics of an evaluation on questions about the held-out people."""
        folder = self.answers(name)
        files = [(folder / file).relative_to(self.folder).as_posix() for file in (PREDICTIONS, ANSWERS, METRICS)]
        record_files(self.folder, QUICKSTART, files)
        model = WITH if name == NEW_WORDINGS else name
        source = {"model_name_or_path": str(self.folder / folder_name(model))}
        metrics = evaluate(
            make_settings(
                EvaluateSettings,
                question_file=str(self.new_wordings if name == NEW_WORDINGS else self.dev),
                train_file=str(self.questions),
                corpus_file=str(self.lines),
                output_dir=str(folder),
                name=name,
                **({"baseline": "most_common"} if name == MOST_COMMON else source),
            )
        )
        assert metrics is not None, "the questions have answers"
        return metrics

    def answers(self, name: str) -> Path:
        """The folder of an evaluation."""
        return self.folder / "evaluation" / folder_name(name)

    def predictions(self, name: str) -> list[str]:
        """The answers of an evaluation, in the order of its questions."""
        return (self.answers(name) / PREDICTIONS).read_text(encoding="utf-8").splitlines()


def accuracy_table(corpus: RelationCorpus, evaluated: list[dict]) -> str:
    """The accuracy of each evaluation for each relation, and for all of them if there are several."""
    relations = [relation.relation for relation in corpus.relations]
    rows = [
        {RELATION: relation, **{row["name"]: percent(accuracy_of(row, relation)) for row in evaluated}}
        for relation in relations
    ]
    if len(relations) > 1:
        rows.append({RELATION: "all", **{row["name"]: percent(row["accuracy"]) for row in evaluated}})
    return text_table(rows, list(rows[0]))


def accuracy_of(metrics: dict, relation: str) -> float:
    """The accuracy on the questions of a relation; metrics of a single relation have no slices of it."""
    by_relation = metrics["slices"].get(RELATION)
    return metrics["accuracy"] if by_relation is None else by_relation[relation]["accuracy"]


def show_answers(run: Runner, count: int) -> None:
    """Print the first answers with their questions."""
    questions = load_questions(str(run.dev))
    shown = questions.select(range(min(count, len(questions))))
    for row, prediction in zip(shown, run.predictions(WITH), strict=False):
        verdict = "right" if prediction in answers_of(row) else f"wrong, it was {row['answer']}"
        print(f"{row['question']} {prediction} ({verdict})")


COMMAND = Command(QuickstartSettings, quickstart, several_processes=False)
