"""Evaluation during training: the accuracy on questions, and the recall after names."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

import datasets
from accelerate import Accelerator
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from birthgpt.data.questions import UNKNOWN_RELATION, answers_of, relation_in
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

    Where the held-out questions have several relations, `held_out_accuracy/RELATION` follows for each. All are in 0..1.
    """
    sample = trained.shuffle(seed=0).select(range(min(SAMPLE, len(trained))))
    rows_of = _rows_by_relation(held_out)

    def evaluate(model: PreTrainedModel) -> dict[str, float]:
        learned, new = (_matches(model, tokenizer, questions, accelerator) for questions in (sample, held_out))
        found = {"train_accuracy": learned, "held_out_accuracy": new}
        if len(rows_of) > 1:
            found |= {f"held_out_accuracy/{name}": [new[row] for row in rows] for name, rows in rows_of.items()}
        return {name: fmean(matches) for name, matches in found.items()}

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


def _rows_by_relation(questions: datasets.Dataset) -> dict[str, list[int]]:
    """The rows of each relation, in alphabetical order; those without a relation are of `UNKNOWN_RELATION`."""
    rows_of: dict[str, list[int]] = {}
    for index, row in enumerate(questions):
        rows_of.setdefault(relation_in(row) or UNKNOWN_RELATION, []).append(index)
    return dict(sorted(rows_of.items()))


def _matches(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, questions: datasets.Dataset, accelerator: Accelerator
) -> list[float]:
    """1 for each question that is answered right, 0 for each other one."""
    answers = answer_questions(model, tokenizer, questions["question"][:], accelerator=accelerator)
    return [exact_match([answer.text], [answers_of(row)]) for answer, row in zip(answers, questions, strict=True)]
