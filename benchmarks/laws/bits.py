"""How many bits about the facts a model stores, from its loss on them.

A person's fact with entropy H costs a model that knows nothing but the possible answers H bits, and a model that knows
it none. So a loss of p nats means that H − p / ln 2 bits of each fact are stored. This is the lower bound of
Allen-Zhu & Li, 2404.05405, on the bits in a model of N people, without the bits of the names:

    R = N log2(S0 / e^p2) / parameters,

where S0 is the number of possible facts of a person, so log2 S0 = Σ H over the relations, and p2 is the loss on all
facts of a person, in nats, summed over the tokens. Names are no facts here: they are the given side of each fact. A
relation on which a model is worse than a uniform guess counts 0, and not less.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from birthgpt.evaluation.answering import evaluation_mode


class FactLoss(NamedTuple):
    """What a model says about an answer in its line, where it has read the line before it."""

    nats: float  # minus the logarithm of the probability of the whole answer
    is_greedy: bool  # whether each of its tokens is the most likely one


def bits_stored(people: int, entropies: Mapping[str, float], nats: Mapping[str, Sequence[float]]) -> float:
    """The bits about the facts of `people` people that are stored.

    Args:
        entropies: the entropy of each relation, in bits.
        nats: relation → the losses on its facts, in nats, of some or all people.
    """
    each = (max(0.0, bits - fmean(nats[relation]) / math.log(2)) for relation, bits in entropies.items())
    return people * sum(each)


def find_answers(line: str, answers: Sequence[str]) -> list[tuple[int, int]]:
    """Where the answers are in a line that tells them in this order: the bounds of each, in characters.

    Raises:
        ValueError: an answer is not in the line behind the answer before it.
    """
    bounds, start = [], 0
    for answer in answers:
        found = line.find(answer, start)
        if found < 0:
            raise ValueError(f"{answer!r} is not in the line {line!r} behind the answer before it")
        start = found + len(answer)
        bounds.append((found, start))
    return bounds


@torch.inference_mode()
def fact_losses(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    lines: Sequence[str],
    bounds: Sequence[Sequence[tuple[int, int]]],
    batch_size: int = 64,
) -> Iterator[list[FactLoss]]:
    """The losses on the answers of each line.

    Args:
        bounds: the answers of each line, as `find_answers` returns them. A token belongs to an answer if it has a
            character of it.
    """
    with evaluation_mode(model):
        for start in range(0, len(lines), batch_size):
            batch = list(lines[start : start + batch_size])
            encoded = tokenizer(
                batch, return_offsets_mapping=True, padding=True, padding_side="right", return_tensors="pt"
            )
            offsets = encoded.pop("offset_mapping").tolist()
            ids = encoded["input_ids"].to(model.device)  # (batch, length)
            mask = encoded["attention_mask"].to(model.device)
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
            targets = ids[:, 1:, None]
            nats = -logits.log_softmax(dim=-1).gather(2, targets)[..., 0].double().cpu()  # (batch, length - 1)
            greedy = (logits.argmax(dim=-1) == targets[..., 0]).cpu()
            for row, spans in enumerate(bounds[start : start + batch_size]):
                yield [_loss_of(nats[row], greedy[row], offsets[row], *span) for span in spans]


def _loss_of(nats: torch.Tensor, greedy: torch.Tensor, offsets: list, start: int, end: int) -> FactLoss:
    tokens = [index for index, (first, last) in enumerate(offsets) if first < end and last > start and last > first]
    assert tokens and tokens[0] > 0, "an answer is not the first token of its line"
    before = [index - 1 for index in tokens]
    return FactLoss(float(nats[before].sum()), bool(greedy[before].all()))
