"""How likely a model finds given answers after given prompts, token by token, in one pass over padded batches."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from birthgpt.data.objectives import IGNORE
from birthgpt.evaluation.answering import can_rank, check_scores, evaluation_mode, positions_are_learned
from birthgpt.evaluation.prompting import prompt_inputs


@dataclass(frozen=True)
class Score:
    """What a model says about an answer after a prompt; all logarithms are natural.

    Args:
        log_probability: log p(answer ␃ | prompt), summed over the answer's tokens and its ␃.
        weakest_token: the smallest log p of one of these tokens.
        first_rank: how many other tokens are at least as likely as the answer's first token; 0 is the best.
        unknown_log_probability: log p of the token *unknown* right after the prompt; NaN if there is no such token.
    """

    log_probability: float
    weakest_token: float
    first_rank: int
    unknown_log_probability: float


@torch.inference_mode()
def score_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    answers: Sequence[str],
    *,
    batch_size: int = 256,
    unknown_token_id: int | None = None,
) -> list[Score]:
    """The score of each answer after its prompt; a prompt ends with its ⁇.

    Tokens that do not fit into a model with learned positions, such as the ␃ of a long answer, are not counted.

    Raises:
        ValueError: scores are not finite, or equal for all tokens.
    """
    if not len(prompts):
        return []
    room = model.config.max_position_embeddings if positions_are_learned(model.config) else None
    asked = tokenizer(list(prompts))["input_ids"]
    # a question and its answer are tokenized separately, as in training
    replies = tokenizer(list(answers))["input_ids"]
    rows = []
    for prompt, reply in zip(asked, replies, strict=True):
        targets = [IGNORE] * (len(prompt) - 1) + reply + [tokenizer.eos_token_id]
        # the decoder of an encoder–decoder begins with the ⁇ of the prompt
        first = len(prompt) - 1 if model.config.is_encoder_decoder else 0
        end = None if room is None else first + room
        rows.append(((prompt + reply)[:end], targets[first:end]))
    found: list[Score] = []
    with evaluation_mode(model):
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            inputs = prompt_inputs(model, tokenizer, [tokens for tokens, _ in batch], padding_side="right")
            if not model.config.is_encoder_decoder:
                # padding behind a row has no effect in a causal model
                del inputs["attention_mask"]
            labels = _filled_up([targets for _, targets in batch], IGNORE).to(model.device)
            logits = model(**inputs, use_cache=False).logits  # (batch, length, vocab_size)
            found += _scores(logits, labels, unknown_token_id)
    check_scores(model, [math.isfinite(score.log_probability) for score in found], prompts)
    return found


def _scores(logits: torch.Tensor, targets: torch.Tensor, unknown_token_id: int | None) -> list[Score]:
    """The scores of a batch; the log probability is NaN where the logits rank no token.

    Args:
        logits: (batch, length, vocab_size).
        targets: (batch, length); what is no target is `IGNORE`.
    """
    losses = torch.nn.functional.cross_entropy(
        logits.transpose(1, 2).float(), targets, ignore_index=IGNORE, reduction="none"
    )  # (batch, length)
    is_target = targets != IGNORE
    usable = (can_rank(logits) | ~is_target).all(dim=1)
    sums = (-losses.sum(dim=1)).masked_fill(~usable, math.nan)
    # every answer has a target, because a prompt leaves room for one token
    weakest = -losses.masked_fill(~is_target, -math.inf).amax(dim=1)
    rows = torch.arange(len(targets), device=targets.device)
    firsts = is_target.long().argmax(dim=1)
    first_logits = logits[rows, firsts].float()  # (batch, vocab_size)
    expected = first_logits.gather(1, targets[rows, firsts, None])
    # the token itself is as likely as itself
    ranks = (first_logits >= expected).sum(dim=1) - 1
    if unknown_token_id is None:
        unknown = torch.full_like(sums, math.nan)
    else:
        unknown = first_logits.log_softmax(dim=1)[:, unknown_token_id]
    return [
        Score(*values) for values in zip(sums.tolist(), weakest.tolist(), ranks.tolist(), unknown.tolist(), strict=True)
    ]


def _filled_up(rows: Sequence[list[int]], fill: int) -> torch.Tensor:
    """A tensor (rows, longest), padded on the right."""
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=fill)
