"""A lab: the folder of an experiment, in which the commands of the package are run and noted."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.laws.law import Sizes
from benchmarks.runs import Runs
from birthgpt.commands.report_answers import PREDICTIONS
from birthgpt.data.synthetic import relation_corpus

QUESTIONS_TRAIN, QUESTIONS_DEV = f"{relation_corpus.TRAIN}.jsonl", f"{relation_corpus.DEV}.jsonl"
"""The questions about the people of finetuning, and about the held-out people."""

Question = dict[str, str]
"""A row of a question file: question, answer, name, relation."""

Facts = dict[str, dict[str, str]]
"""Name → relation → answer."""


@dataclass
class Lab(Runs):
    """The runs of an experiment: laws share their people and their pretrained models.

    Args:
        sizes: the sizes of the experiment.
    """

    sizes: Sizes

    def people(self, name: str, **settings: object) -> Path:
        """The folder of synthetic people; half of them are held out."""
        people = settings.pop("people", self.sizes.people)
        held_out = settings.pop("held_out", int(str(people)) // 2)
        relations = settings.pop("relations", self.sizes.relations)
        return self.run("people", name, people=people, held_out=held_out, relations=relations, **settings)

    def pretrain(self, name: str, lines: Path, **settings: object) -> Path:
        """A model that is pretrained on lines, by language modelling if the settings do not say anything else."""
        defaults: dict[str, object] = {"config": "quickstart/pretrain", "objective": "language_modeling"}
        given: dict[str, object] = {
            "train_file": lines,
            "question_ratio": 0,
            "validation_size": 0,
            "tokens_per_batch": self.sizes.pretraining_batch,
            "max_train_flops": self.sizes.max_train_flops,
            "save_steps": 0,
        }
        return self.run("pretrain", name, **(defaults | dict(self.sizes.model) | given | settings))

    def finetune(self, name: str, model: Path, questions: Path, **settings: object) -> Path:
        """A model that is finetuned on a file of questions; the weights that answer most held-out ones are kept."""
        given: dict[str, object] = {
            "config": "relations/finetune",
            "model_name_or_path": model,
            "train_file": questions,
            "validation_size": self.sizes.validation_size,
            "eval_steps": 20,
            "tokens_per_batch": self.sizes.finetuning_batch,
            "max_train_steps": self.sizes.finetuning_steps,
            "save_steps": 0,
        }
        return self.run("finetune", name, **(given | settings))

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
