"""Invented people, and the files about them: a line for each, and the question where each was born."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lab import BLOCK_OF_RECIPE, Lab
from birthgpt.data.synthetic.lists import load_lists

RELATION = "Where was {name} born?"
LINE = "{name}. {name} was born in {place} and worked as {occupation} ."


@dataclass(frozen=True)
class Person:
    """A person whose line tells a birthplace and an occupation."""

    name: str
    place: str
    occupation: str

    @property
    def line(self) -> str:
        """The line about this person, in which nothing but the name tells who it is."""
        return LINE.format(name=self.name, place=self.place, occupation=self.occupation)

    @property
    def question(self) -> str:
        """Where this person was born."""
        return question(self.name)


@dataclass(frozen=True)
class Sizes:
    """How large the experiments are.

    Args:
        asked: people who are asked about; finetuning never asks about them.
        taught: people whose questions finetuning asks.
        of_origin: people of each origin; half of them are taught.
        epochs: passes over the lines about people of different exposures.
        origin_epochs: passes over the lines about people of different origins.
        unread: names that no line has, of each kind.
        steps: updates of a finetuning.
    """

    asked: int
    taught: int
    of_origin: int
    epochs: int
    origin_epochs: int
    unread: int
    steps: int


SCALES = {
    "small": Sizes(asked=120, taught=75, of_origin=40, epochs=6, origin_epochs=40, unread=120, steps=30),
    "tiny": Sizes(asked=12, taught=25, of_origin=12, epochs=1, origin_epochs=1, unread=12, steps=2),
}

MODEL: dict[str, object] = {
    "objective": "salient_spans",
    "cue_probability": 0.8,
    "tokenizer_type": "bpe",
    "vocab_size": 512,
    "block_size": 128,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "ngram_orders": (2, 3),
    "ngram_vocab_size": 8192,
    **BLOCK_OF_RECIPE,
}
"""The model and the objective of the recipe, in small."""

OPTIMIZER: dict[str, object] = {"optimizer": "muon", "lr_scheduler_type": "linear", "save_steps": 0}


def invent_people(count: int, places: int, parts: int, seed: int) -> list[Person]:
    """People with different names of `parts` first and last names, and places of which the k-th has weight 1/k."""
    generator, lists = random.Random(f"{seed}-people"), load_lists("names.json")
    first = generator.sample([*lists["women"], *lists["men"]], parts)
    stems, endings = (generator.sample(lists[f"last_name_{part}"], parts) for part in ("stems", "endings"))
    last = [stem + ending for stem, ending in zip(stems, endings, strict=True)]
    names = generator.sample([f"{one} {other}" for one in first for other in last], count)
    chosen = generator.sample(lists["places"], places)
    drawn = generator.choices(chosen, [1 / rank for rank in range(1, places + 1)], k=count)
    return [Person(*each, generator.choice(lists["occupations"])) for each in zip(names, drawn, strict=True)]


def question(name: str) -> str:
    """Where somebody of this name was born."""
    return RELATION.format(name=name)


def write_lines(path: Path, copies: Mapping[Person, int]) -> Path:
    """A corpus in which each person has so many copies of the same line, in an order that is always the same."""
    lines = [person.line for person, count in copies.items() for _ in range(count)]
    random.Random(0).shuffle(lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def write_questions(path: Path, people: Iterable[Person]) -> Path:
    """The questions about people, with their answers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{person.question}\t{person.place}\n" for person in people), encoding="utf-8")
    return path


def train(lab: Lab, name: str, lines: Path, questions: Path, epochs: int, steps: int) -> Path:
    """A model that is pretrained on lines, and finetuned on questions, all of which it sees."""
    pretrained = lab.run(
        "pretrain",
        f"{name}/pretrained",
        **MODEL,
        **OPTIMIZER,
        train_file=lines,
        num_train_epochs=epochs,
        tokens_per_batch=1024,
        learning_rate=8e-3,
        warmup_steps=20,
    )
    return lab.run(
        "finetune",
        f"{name}/finetuned",
        **OPTIMIZER,
        model_name_or_path=pretrained,
        train_file=questions,
        corpus_file=lines,
        validation_size=0,
        tokens_per_batch=1024,
        max_train_steps=steps,
        learning_rate=3e-3,
        warmup_steps=2,
    )


def most_common(places: Sequence[str]) -> list[str]:
    """The places, the most frequent one first; of equally frequent ones, the alphabetically first."""
    return sorted(set(places), key=lambda place: (-places.count(place), place))
