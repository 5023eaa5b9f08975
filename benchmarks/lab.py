"""A lab: the folder of an experiment, in which the commands of the package are run and noted."""

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from birthgpt.cli import find_command
from birthgpt.commands.report_answers import PREDICTIONS
from birthgpt.commands.run_metadata import read_run_metadata
from birthgpt.data.synthetic import relation_corpus
from birthgpt.settings import parse_settings
from birthgpt.utils.files import save_json

QUESTIONS_TRAIN, QUESTIONS_DEV = f"{relation_corpus.TRAIN}.jsonl", f"{relation_corpus.DEV}.jsonl"
"""The questions about the people of finetuning, and about the held-out people."""

BLOCK_OF_RECIPE: dict[str, object] = {
    "position_embedding_type": "rotary",
    "norm_type": "rmsnorm",
    "hidden_act": "relu2",
    "attention_bias": False,
    "mlp_bias": False,
    "qk_norm": True,
    "zero_init_residual": True,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
}
"""The settings of a block in the recipe, for models that are built without its configuration."""

OF_TYPE: dict[str, dict[str, object]] = {"sliding_softmax": {"sliding_window": 16}}
"""What an attention type needs beside its name."""

Question = dict[str, str]
"""A row of a question file: question, answer, name, relation."""

Facts = dict[str, dict[str, str]]
"""Name → relation → answer."""


@dataclass
class Lab:
    """Runs commands in a folder. A run that is there already is not repeated: experiments share their models.

    Args:
        folder: the folder for people, models and answers.
        seed: the seed of people and trainings.
    """

    folder: Path
    seed: int
    commands: list[str] = field(default_factory=list, kw_only=True)
    """The commands of the current row, as a user can run them."""
    seconds: float = field(default=0.0, kw_only=True)
    """The time of all trainings of the current row, also of those that were run for an earlier one."""

    def start_row(self) -> None:
        """Forget the commands and the time of the row before."""
        self.commands, self.seconds = [], 0.0

    def answers(self, model: Path, questions: Path) -> list[str]:
        """The answers of a model to a file of questions, in its order."""
        name = f"{model.name}/{questions.parent.name}-{questions.stem}"
        folder = self.run(
            "evaluate", f"answers/{name}", model_name_or_path=model, question_file=questions, seeded=False
        )
        return (folder / PREDICTIONS).read_text(encoding="utf-8").splitlines()

    def accuracy(self, model: Path, questions: Path, relations: Iterable[str] = ()) -> float:
        """The exact match of a model in percent, on all questions of a file or on those of the given relations."""
        chosen = set(relations)
        pairs = zip(self.answers(model, questions), read_questions(questions), strict=True)
        return percent_of(answer == row["answer"] for answer, row in pairs if not chosen or row["relation"] in chosen)

    def write_questions(self, name: str, rows: Sequence[Question]) -> Path:
        """A file of questions that no command writes."""
        path = self.folder / "questions" / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        return path

    def run(self, command: str, name: str, seeded: bool = True, writes_folder: bool = True, **settings: object) -> Path:
        """The output folder of a command, which is run unless it was run before.

        Args:
            command: its name.
            name: the output folder, in the folder of the lab.
            seeded: whether the command has a seed.
            writes_folder: whether the command has an output folder.
            settings: its other settings.

        Raises:
            ValueError: it was run with other settings before.
        """
        output = self.folder / name
        seed = {"seed": self.seed} if seeded else {}
        folder = {"output_dir": output} if writes_folder else {}
        arguments = to_arguments({**settings, **seed, **folder})
        self.commands.append(shlex.join(["birthgpt", command, *arguments]))
        record = self.folder / f"{name}.arguments.json"
        if record.is_file():
            if json.loads(record.read_text(encoding="utf-8")) != arguments:
                raise ValueError(
                    f"{output} was made with other settings: remove {self.folder}, or give another runs_dir"
                )
        else:
            entry = find_command(command)
            entry.run(parse_settings(entry.settings, arguments))
            record.parent.mkdir(parents=True, exist_ok=True)
            save_json(record, arguments)
        if (output / "run.json").is_file():
            metadata = read_run_metadata(output)
            assert metadata is not None
            self.seconds += metadata["seconds"]
        return output


def to_arguments(settings: Mapping[str, object]) -> list[str]:
    """`{"people": 100, "relations": ("a", "b")}` as `--people 100 --relations a b`."""
    arguments: list[str] = []
    for name, value in settings.items():
        values = value if isinstance(value, list | tuple) else [value]
        arguments += [f"--{name}", *map(str, values)]
    return arguments


def read_questions(path: Path) -> list[Question]:
    """The rows of a file of questions."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_facts(path: Path) -> Facts:
    """The facts that a file of questions asks for."""
    facts: Facts = {}
    for row in read_questions(path):
        facts.setdefault(row["name"], {})[row["relation"]] = row["answer"]
    return facts


def percent_of(verdicts: Iterable[bool]) -> float:
    """How many verdicts are true, in percent."""
    found = list(verdicts)
    assert found, "a percentage of nothing"
    return 100 * sum(found) / len(found)
