"""From nothing to a trained, answering model: invented people, end to end."""

import logging
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from birthgpt.commands.evaluate import evaluate
from birthgpt.commands.finetune import finetune
from birthgpt.commands.pretrain import pretrain
from birthgpt.data.questions import load_questions
from birthgpt.data.synthetic import DEV, TRAIN, WIKI, write_synthetic_corpus
from birthgpt.training.arguments import (
    FINETUNE_ARGUMENTS,
    PRETRAIN_ARGUMENTS,
    EvaluationArguments,
    parse_arguments,
)
from birthgpt.utils.tables import text_table

logger = logging.getLogger(__name__)


@dataclass
class QuickstartArguments:
    """How many people to invent, and how long to train on them."""

    output_dir: str = field(default="runs/quickstart", metadata={"help": "folder of everything; made anew"})
    people: int = field(default=1000, metadata={"help": "people to invent"})
    held_out: int = field(default=200, metadata={"help": "of them, people whose question is never trained on"})
    biographies_per_person: int = field(default=5, metadata={"help": "different lines about each person"})
    config_dir: str = field(default="configs/quickstart", metadata={"help": "folder of the runs' settings"})
    seed: int = field(default=0, metadata={"help": "of people and training"})
    max_train_flops: float | None = field(
        default=None, metadata={"help": "of pretraining; that of the config if not given"}
    )


def quickstart(arguments: QuickstartArguments) -> list[dict]:
    """Invent people, pretrain, finetune with and without, ask about held-out people, print one table."""
    started = time.perf_counter()
    folder = Path(arguments.output_dir)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "people" / WIKI).is_file():
        raise ValueError(f"{folder} holds something else than an earlier quickstart: choose another output_dir")
    # beside it, so that an earlier quickstart is kept where the people cannot be made
    with tempfile.TemporaryDirectory() as scratch:
        corpus = write_synthetic_corpus(
            Path(scratch, "people"),
            people=arguments.people,
            held_out=arguments.held_out,
            biographies_per_person=arguments.biographies_per_person,
            seed=arguments.seed,
        )
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(Path(scratch, "people"), folder / "people")
    print(
        f"{corpus.people:,} invented people from {corpus.places} places in {corpus.lines:,} lines; "
        f"{corpus.held_out} people are held out\n"
    )
    run = _Runner(folder, Path(arguments.config_dir), arguments.seed)
    flops = [] if arguments.max_train_flops is None else ["--max_train_flops", str(arguments.max_train_flops)]
    questions = folder / "people" / TRAIN
    run("pretrain", pretrain, PRETRAIN_ARGUMENTS, "pretrained", "--train_file", folder / "people" / WIKI,
        "--question_file", questions, *flops)  # fmt: skip
    run(
        "finetune",
        finetune,
        FINETUNE_ARGUMENTS,
        "with_pretraining",
        "--train_file",
        questions,
        "--model_name_or_path",
        folder / "pretrained",
    )
    run("finetune_without_pretraining", finetune, FINETUNE_ARGUMENTS, "without_pretraining", "--train_file", questions,
        "--corpus_file", folder / "people" / WIKI)  # fmt: skip
    rows = [
        run.ask("most common place", baseline="most_common"),
        run.ask("without pretraining", model_name_or_path=str(folder / "without_pretraining")),
        run.ask("with pretraining", model_name_or_path=str(folder / "with_pretraining")),
    ]
    print("\n" + text_table(rows, ["name", "accuracy", "correct", "total"]) + "\n")
    _show_answers(folder)
    minutes = (time.perf_counter() - started) / 60
    print(f"\nthe checkpoint that answers: {folder / 'with_pretraining'} ({minutes:.1f} minutes in all)")
    return rows


class _Runner:
    """Runs a step by its configuration file, and says by which command a user would run it."""

    def __init__(self, folder: Path, configs: Path, seed: int):
        self.folder, self.configs, self.seed = folder, configs, seed

    def __call__(self, config: str, function: Callable, argument_classes: tuple, name: str, *overrides) -> None:
        script = config.split("_")[0]
        arguments = ["--config", self.configs / f"{config}.yaml", *overrides]
        arguments += ["--output_dir", self.folder / name, "--seed", self.seed]
        print("$ python", f"scripts/{script}.py", *arguments)
        function(*parse_arguments(argument_classes, [str(argument) for argument in arguments]))

    def ask(self, name: str, **source) -> dict:
        return evaluate(
            EvaluationArguments(
                question_file=str(self.folder / "people" / DEV),
                train_file=str(self.folder / "people" / TRAIN),
                corpus_file=str(self.folder / "people" / WIKI),
                output_dir=str(self.folder / "evaluation" / name.replace(" ", "_")),
                name=name,
                **source,
            )
        )


def _show_answers(folder: Path, count: int = 5) -> None:
    questions = load_questions(str(folder / "people" / DEV))
    predictions = (folder / "evaluation" / "with_pretraining" / "predictions.txt").read_text(encoding="utf-8")
    shown = questions.select(range(min(count, len(questions))))
    for row, prediction in zip(shown, predictions.splitlines(), strict=False):
        verdict = "right" if prediction == row["answer"] else f"wrong, it was {row['answer']}"
        print(f"{row['question']} {prediction} ({verdict})")
