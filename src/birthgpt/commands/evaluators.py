"""Evaluation during training: the accuracy on questions, and the recall after names."""

from collections.abc import Callable, Mapping, Sequence

import datasets
from accelerate import Accelerator
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from birthgpt.data.questions import answers_of
from birthgpt.evaluation.answering import answer_questions
from birthgpt.evaluation.metrics import exact_match
from birthgpt.evaluation.recall import answer_ranks, answerable, prompts_by_kind, recall_at

Evaluator = Callable[[PreTrainedModel], dict[str, float]]

SAMPLE = 100
"""The number of train questions in each evaluation."""


def build_accuracy_evaluator(
    trained: datasets.Dataset,
    held_out: datasets.Dataset,
    tokenizer: PreTrainedTokenizerBase,
    accelerator: Accelerator,
) -> Evaluator:
    """A function that returns a model's `train_accuracy`, always on the same sample, and its `held_out_accuracy`.

    Both are in 0..1.
    """
    sample = trained.shuffle(seed=0).select(range(min(SAMPLE, len(trained))))

    def evaluate(model: PreTrainedModel) -> dict[str, float]:
        asked = {"train_accuracy": sample, "held_out_accuracy": held_out}
        return {name: _accuracy(model, tokenizer, questions, accelerator) for name, questions in asked.items()}

    return evaluate


def build_recall_evaluator(
    held_out: datasets.Dataset, lines_by_name: Mapping[str, Sequence[str]], tokenizer: PreTrainedTokenizerBase
) -> Evaluator:
    """A function that returns `name_recall@k` for k = 1, 3, 10, 30: recall@k of the first answer token after `Name⁇`.

    The values are in 0..1, over the held-out questions whose answer is in the line of the person. A model recalls a
    fact from the name long before it can answer a question about it.

    Raises:
        ValueError: there is no such question.
    """
    found = answerable(list(held_out), lines_by_name)
    if not found:
        raise ValueError("no answer to a held-out question is in the line of its person: set eval_steps to 0")
    questions = [question for question, _ in found]
    names, answers = [row["name"] for row in questions], [answers_of(row) for row in questions]
    prompts = prompts_by_kind(names, [row["question"] for row in questions], [before for _, before in found])["name"]

    def evaluate(model: PreTrainedModel) -> dict[str, float]:
        recall = recall_at(answer_ranks(model, tokenizer, prompts, answers))
        return {f"name_{key}": value for key, value in recall.items()}

    return evaluate


def _accuracy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, questions: datasets.Dataset, accelerator: Accelerator
) -> float:
    answers = answer_questions(model, tokenizer, questions["question"][:], accelerator=accelerator)
    return exact_match([answer.text for answer in answers], [answers_of(row) for row in questions])
