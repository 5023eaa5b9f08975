"""Accuracy while training: on questions that are trained on, and on questions that are not."""

from collections.abc import Callable

import datasets
from accelerate import Accelerator
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from birthgpt.evaluation.accuracy import exact_match
from birthgpt.evaluation.answering import answer_questions

SAMPLE = 100
"""Train questions that are asked at a look; the others are for training alone."""


def accuracy_curves(
    trained: datasets.Dataset,
    held_out: datasets.Dataset,
    tokenizer: PreTrainedTokenizerBase,
    accelerator: Accelerator,
) -> Callable[[PreTrainedModel], dict[str, float]]:
    """A function that gives a model's `train_accuracy`, on the same sample each time, and `held_out_accuracy`.

    Both are shares in 0..1.
    """
    sample = trained.shuffle(seed=0).select(range(min(SAMPLE, len(trained))))

    def evaluate(model: PreTrainedModel) -> dict[str, float]:
        asked = {"train_accuracy": sample, "held_out_accuracy": held_out}
        return {name: _accuracy(model, tokenizer, questions, accelerator) for name, questions in asked.items()}

    return evaluate


def _accuracy(model, tokenizer, questions: datasets.Dataset, accelerator: Accelerator) -> float:
    answers = answer_questions(model, tokenizer, questions["question"][:], accelerator=accelerator)
    return exact_match([answer.text for answer in answers], questions["answer"][:])
