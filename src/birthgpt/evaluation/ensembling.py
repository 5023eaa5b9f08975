"""Ensembles: the answer of several models is chosen by the mean of their probabilities."""

from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from birthgpt.data.tokenizers import UNKNOWN_ANSWER_TOKEN, question_prompt
from birthgpt.evaluation.answering import Answer, answer_questions
from birthgpt.evaluation.scoring import score_answers

Member = tuple[PreTrainedModel, PreTrainedTokenizerBase]


def ensemble_answers(
    members: Sequence[Member],
    questions: Sequence[str],
    *,
    batch_size: int = 256,
    max_new_tokens: int = 48,
    always_answer: bool = False,
    accelerator: Accelerator | None = None,
) -> list[Answer]:
    """The most likely answer to each question under the mixture p(answer) = mean over the members of p_k(answer).

    The candidates are the answers of all members by greedy decoding. `log_probability` is that of the mixture. Each
    member has its own tokenizer, because answers are compared as text. Unknown is an answer like others.

    Args:
        always_answer: leave out unknown.
        accelerator: with several processes, each answers a part of the questions and returns all answers.

    Raises:
        ValueError: there is no member, or a question is wrong for a member.
    """
    if not members:
        raise ValueError("an ensemble needs at least one model")
    settings: dict[str, Any] = {"batch_size": batch_size, "max_new_tokens": max_new_tokens, "accelerator": accelerator}
    given = [answer_questions(*member, questions, always_answer=always_answer, **settings) for member in members]
    # in the order of the members, so that the choice between equal probabilities is always the same
    candidates = [list(dict.fromkeys(answer.written for answer in answers)) for answers in zip(*given, strict=True)]
    asked = [question for question, texts in zip(questions, candidates, strict=True) for _ in texts]
    weighed = [text for texts in candidates for text in texts]
    scores = torch.tensor(
        [answer_log_probabilities(*member, asked, weighed, batch_size=batch_size) for member in members]
    )  # (members, candidates of all questions)
    mixed = iter((scores.logsumexp(dim=0) - torch.tensor(len(members)).log()).tolist())
    best = []
    for texts in candidates:
        answers = [
            Answer("", next(mixed), is_unknown=True) if text == UNKNOWN_ANSWER_TOKEN else Answer(text, next(mixed))
            for text in texts
        ]
        best.append(max(answers, key=lambda answer: answer.log_probability))
    return best


def answer_log_probabilities(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[str],
    answers: Sequence[str],
    *,
    batch_size: int = 256,
) -> list[float]:
    """The natural logarithm of p(answer ␃ | question ⁇) of each pair, as `score_answers` computes it.

    Raises:
        ValueError: scores are not finite, or equal for all tokens.
    """
    prompts = [question_prompt(tokenizer, question) for question in questions]
    scores = score_answers(model, tokenizer, prompts, answers, batch_size=batch_size)
    return [score.log_probability for score in scores]
