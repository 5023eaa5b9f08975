"""What every law declares, and the sizes of an experiment."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.laws.lab import LawLab

PERCENT = "%"

Measures = dict[str, float | None]
"""Measured values by the key of their measure; None where a measure does not apply."""


@dataclass(frozen=True)
class Sizes:
    """How large an experiment is. Half of the people are held out: finetuning never asks about them."""

    people: int
    relations: tuple[str, ...]
    model: Mapping[str, object]
    max_train_flops: float
    pretraining_batch: int  # tokens
    finetuning_steps: int
    finetuning_batch: int  # tokens
    validation_size: int
    question_ratio: float
    capacity: "CapacitySizes"


@dataclass(frozen=True)
class CapacitySizes:
    """The models of the law of capacity: two widths, two numbers of exposures of each fact, each with its batches."""

    hidden_sizes: tuple[int, int]
    exposures: tuple[int, int]
    tokens_per_batch: tuple[int, int]
    vocab_size: int
    ngram_vocab_size: int


@dataclass(frozen=True)
class Law:
    """A published law.

    Args:
        text: the docstring of its file: a title, then paragraphs that begin with a word and a colon.
        measures: key → heading. The first one is what the published figure is about.
        rows: key → the case in words.
        published: row → the published figure of the first measure.
        measure: measures one row in a lab.
    """

    text: str
    measures: Mapping[str, str]
    rows: Mapping[str, str]
    published: Mapping[str, str]
    measure: Callable[["LawLab", str], Measures]

    @property
    def title(self) -> str:
        """The first line of the docstring, without its full stop."""
        return self.text.split("\n")[0].rstrip(".")

    @property
    def paragraphs(self) -> list[str]:
        """The paragraphs after the title, each on one line."""
        return [" ".join(paragraph.split()) for paragraph in self.text.split("\n\n")[1:]]


SCALES = {
    # seconds: whether everything runs
    "tiny": Sizes(
        people=100,
        relations=("birthplace", "birth_date"),
        model={"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 400},
        max_train_flops=2e9,
        pretraining_batch=2048,
        finetuning_steps=2,
        finetuning_batch=1024,
        validation_size=0,
        question_ratio=0.5,
        capacity=CapacitySizes((8, 16), (1, 2), (2048, 2048), 400, 64),
    ),
    # minutes on two cores
    "small": Sizes(
        people=100,
        relations=("birthplace", "birth_date", "employer"),
        model={"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 512},
        max_train_flops=1.1e12,
        pretraining_batch=1024,
        finetuning_steps=100,
        finetuning_batch=1024,
        validation_size=30,
        question_ratio=0.5,
        capacity=CapacitySizes((32, 64), (100, 1000), (2048, 32_768), 512, 512),
    ),
    # hours on a GPU
    "full": Sizes(
        people=20_000,
        relations=("birthplace", "birth_date", "occupation", "employer", "field", "study_place"),
        model={"hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8, "vocab_size": 4096},
        max_train_flops=2e17,
        pretraining_batch=65_536,
        finetuning_steps=4000,
        finetuning_batch=8192,
        validation_size=2000,
        question_ratio=0.8,
        capacity=CapacitySizes((64, 128), (100, 1000), (2048, 32_768), 2048, 16_384),
    ),
}
"""The sizes by name."""
