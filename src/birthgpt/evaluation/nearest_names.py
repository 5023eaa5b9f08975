"""Where a made-up answer comes from: the names that a model has read, next to a name that it never read.

A model that cannot say *unknown* answers a question about any name. Its answer is compared with its answers to the same
question about names that it has read: about the name with the nearest final state at ⁇, and about those with the same
first part or the same last part.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from birthgpt.data.tokenizers import question_prompt
from birthgpt.data.unknown_names import name_parts
from birthgpt.evaluation.answering import answer_questions, evaluation_mode


@dataclass(frozen=True)
class Origin:
    """Where the answer to a question about one name comes from.

    Args:
        name: the name that was never read.
        answer: the answer of the model, which has to answer.
        nearest: the read name with the nearest state.
        cosine: the cosine of the two states.
        is_of_nearest: whether the model answers the same about the nearest name.
        shares_first, shares_last: whether the nearest name has the same first or last part.
        is_of_first, is_of_last: whether the model answers the same about a read name with the same first or last part;
            None if there is no such name.
        chance_of_first, chance_of_last: the probability of that for as many read names that are drawn at random; None
            as above.
    """

    name: str
    answer: str
    nearest: str
    cosine: float
    is_of_nearest: bool
    shares_first: bool
    shares_last: bool
    is_of_first: bool | None
    is_of_last: bool | None
    chance_of_first: float | None
    chance_of_last: float | None


@torch.inference_mode()
def last_states(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], *, batch_size: int = 256
) -> torch.Tensor:
    """(prompts, hidden_size): the state behind the last layer at the last token of each prompt, which is its ⁇."""
    found = []
    with evaluation_mode(model):
        for start in range(0, len(prompts), batch_size):
            batch = tokenizer(
                list(prompts[start : start + batch_size]), padding=True, padding_side="left", return_tensors="pt"
            ).to(model.device)
            inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
            states = model.base_model(**inputs, use_cache=False).last_hidden_state  # (batch, length, hidden_size)
            found.append(states[:, -1].float().cpu())
    return torch.cat(found)


def cosines(states: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """The cosine of each state, (n, hidden_size), with each of `others`, (m, hidden_size): (n, m)."""
    return torch.nn.functional.normalize(states, dim=-1) @ torch.nn.functional.normalize(others, dim=-1).T


def nearest_states(states: torch.Tensor, others: torch.Tensor) -> tuple[list[int], list[float]]:
    """For each state (n, hidden_size), the index of the one of `others` with the largest cosine, and this cosine."""
    best = cosines(states, others).max(dim=1)
    return best.indices.tolist(), best.values.tolist()


def answer_origins(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    relation: str,
    names: Sequence[str],
    read: Sequence[str],
    *,
    batch_size: int = 256,
) -> list[Origin]:
    """The origin of the answer about each name.

    Args:
        relation: a question with `{name}` in place of the name.
        names: names that the model never read.
        read: names that it has read.

    Raises:
        ValueError: the relation has no `{name}`, there are no names, or a question is too long for the model.
    """
    if "{name}" not in relation:
        raise ValueError(f"the relation {relation!r} has no {{name}}: put it where the name stands in the question")
    if not names or not read:
        raise ValueError("give at least one name that was never read and one that was")
    questions = [relation.replace("{name}", name) for name in (*names, *read)]
    answers = answer_questions(model, tokenizer, questions, batch_size=batch_size, always_answer=True)
    texts, texts_of_read = _split([answer.text for answer in answers], len(names))
    prompts = [question_prompt(tokenizer, question) for question in questions]
    states = last_states(model, tokenizer, prompts, batch_size=batch_size)
    indices, cosines = nearest_states(states[: len(names)], states[len(names) :])
    by_first, by_last = _indices_by_part(read, 0), _indices_by_part(read, -1)
    counts = Counter(texts_of_read)
    origins = []
    for name, text, index, cosine in zip(names, texts, indices, cosines, strict=True):
        parts, of_nearest = name_parts(name), name_parts(read[index])
        others = by_first.get(parts[0], []), by_last.get(parts[-1], [])
        same = [any(texts_of_read[other] == text for other in found) if found else None for found in others]
        frequency = counts[text] / len(read)
        chances = [1 - (1 - frequency) ** len(found) if found else None for found in others]
        origins.append(
            Origin(
                name=name,
                answer=text,
                nearest=read[index],
                cosine=cosine,
                is_of_nearest=texts_of_read[index] == text,
                shares_first=parts[0] == of_nearest[0],
                shares_last=parts[-1] == of_nearest[-1],
                is_of_first=same[0],
                is_of_last=same[1],
                chance_of_first=chances[0],
                chance_of_last=chances[1],
            )
        )
    return origins


def summarize_origins(origins: Sequence[Origin]) -> dict[str, float | int | None]:
    """The number of origins, and the mean (0..1, a cosine −1..1) of every other field over those that have it."""
    fields = ["cosine", "is_of_nearest", "shares_first", "shares_last"]
    fields += ["is_of_first", "chance_of_first", "is_of_last", "chance_of_last"]
    means: dict[str, float | int | None] = {"count": len(origins)}
    for field in fields:
        values = [getattr(origin, field) for origin in origins if getattr(origin, field) is not None]
        means[field] = sum(values) / len(values) if values else None
    return means


def _indices_by_part(names: Sequence[str], place: int) -> dict[str, list[int]]:
    """The indices of the names with each first part (place 0) or last part (place −1)."""
    found: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        found.setdefault(name_parts(name)[place], []).append(index)
    return found


def _split(values: list[str], count: int) -> tuple[list[str], list[str]]:
    return values[:count], values[count:]
