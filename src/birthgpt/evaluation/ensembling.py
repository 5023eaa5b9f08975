"""Ensembles: the answer of several models is chosen by the mean of their probabilities."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from birthgpt.data.objectives import IGNORE
from birthgpt.data.tokenizers import question_prompt
from birthgpt.evaluation.answering import (
    Answer,
    answer_questions,
    can_rank,
    check_scores,
    evaluation_mode,
    positions_are_learned,
)
from birthgpt.evaluation.prompting import prompt_inputs

Member = tuple[PreTrainedModel, PreTrainedTokenizerBase]


def ensemble_answers(
    members: Sequence[Member],
    questions: Sequence[str],
    *,
    batch_size: int = 256,
    max_new_tokens: int = 48,
    accelerator: Accelerator | None = None,
) -> list[Answer]:
    """The most likely answer to each question under the mixture p(answer) = mean over the members of p_k(answer).

    The candidates are the answers of all members by greedy decoding. `log_probability` is that of the mixture. Each
    member has its own tokenizer, because answers are compared as text.

    Args:
        accelerator: with several processes, each answers a part of the questions and returns all answers.

    Raises:
        ValueError: there is no member, or a question is wrong for a member.
    """
    if not members:
        raise ValueError("an ensemble needs at least one model")
    settings: dict[str, Any] = {"batch_size": batch_size, "max_new_tokens": max_new_tokens, "accelerator": accelerator}
    given = [answer_questions(*member, questions, **settings) for member in members]
    # in the order of the members, so that the choice between equal probabilities is always the same
    candidates = [list(dict.fromkeys(answer.text for answer in answers)) for answers in zip(*given, strict=True)]
    asked = [question for question, texts in zip(questions, candidates, strict=True) for _ in texts]
    weighed = [text for texts in candidates for text in texts]
    scores = torch.tensor(
        [answer_log_probabilities(*member, asked, weighed, batch_size=batch_size) for member in members]
    )  # (members, candidates of all questions)
    mixed = iter((scores.logsumexp(dim=0) - torch.tensor(len(members)).log()).tolist())
    best = []
    for texts in candidates:
        answers = [Answer(text, next(mixed)) for text in texts]
        best.append(max(answers, key=lambda answer: answer.log_probability))
    return best


@torch.inference_mode()
def answer_log_probabilities(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[str],
    answers: Sequence[str],
    *,
    batch_size: int = 256,
) -> list[float]:
    """The natural logarithm of p(answer ␃ | question ⁇) of each pair, summed over the answer's tokens and its ␃.

    Tokens that do not fit into a model with learned positions, such as the ␃ of a long answer, are not counted.

    Raises:
        ValueError: scores are not finite, or equal for all tokens.
    """
    if not len(questions):
        return []
    room = model.config.max_position_embeddings if positions_are_learned(model.config) else None
    prompts = tokenizer([question_prompt(tokenizer, question) for question in questions])["input_ids"]
    # a question and its answer are tokenized separately, as in training
    replies = tokenizer(list(answers))["input_ids"]
    rows = []
    for prompt, reply in zip(prompts, replies, strict=True):
        targets = [IGNORE] * (len(prompt) - 1) + reply + [tokenizer.eos_token_id]
        # the decoder of an encoder–decoder begins with the ⁇ of the prompt
        first = len(prompt) - 1 if model.config.is_encoder_decoder else 0
        end = None if room is None else first + room
        rows.append(((prompt + reply)[:end], targets[first:end]))
    found = []
    with evaluation_mode(model):
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            inputs = prompt_inputs(model, tokenizer, [tokens for tokens, _ in batch], padding_side="right")
            if not model.config.is_encoder_decoder:
                # padding behind a row has no effect in a causal model
                del inputs["attention_mask"]
            targets = _filled_up([labels for _, labels in batch], IGNORE).to(model.device)
            logits = model(**inputs, use_cache=False).logits  # (batch, length, vocab_size)
            losses = torch.nn.functional.cross_entropy(
                logits.transpose(1, 2).float(), targets, ignore_index=IGNORE, reduction="none"
            )
            usable = can_rank(logits) | (targets == IGNORE)  # (batch, length)
            found += (-losses.sum(dim=1)).masked_fill(~usable.all(dim=1), math.nan).tolist()
    check_scores([math.isfinite(score) for score in found], questions)
    return found


def _filled_up(rows: Sequence[list[int]], fill: int) -> torch.Tensor:
    """A tensor (rows, longest), padded on the right."""
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=fill)
