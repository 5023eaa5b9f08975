"""What a model predicts after a prompt: the rank of the answer's first token among all tokens."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from birthgpt.data.names import text_after_name
from birthgpt.data.questions import answers_of
from birthgpt.evaluation.answering import can_rank, check_scores, evaluation_mode
from birthgpt.evaluation.prompting import prompt_inputs

LIMITS = (1, 3, 10, 30)


def prompts_by_kind(names: Sequence[str], questions: Sequence[str], befores: Sequence[str]) -> dict[str, list[str]]:
    """The prompts of a probe by kind; an answer, or a span of a line, begins after ⁇.

    Args:
        names: the names of the people.
        questions: the questions about them.
        befores: the text before the answer in the line of each person, without the name at the start.
    """
    last_words = [before.split() for before in befores]
    return {
        "name": [f"{name}⁇" for name in names],
        "name, and the word before the answer": [
            f"{name}⁇{' '.join(words[-1:])}" for name, words in zip(names, last_words, strict=True)
        ],
        "name, and the two words before it": [
            f"{name}⁇{' '.join(words[-2:])}" for name, words in zip(names, last_words, strict=True)
        ],
        "question": [f"{question}⁇" for question in questions],
    }


@torch.inference_mode()
def answer_ranks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    answers: Sequence[str | Sequence[str]],
    *,
    batch_size: int = 256,
) -> list[int]:
    """For each prompt, the number of other tokens that are at least as likely as the answer's first; 0 is the best.

    Prompts are used unchanged: they already contain ⁇. Of several right answers to a prompt, the likeliest counts.

    Raises:
        ValueError: an answer or a prompt has no token; scores are not finite, or equal for all tokens.
    """
    encoded = _encode(tokenizer, prompts)
    # an answer after a word, and not after ⁇, begins with the space between them
    firsts = [
        _first_tokens(tokenizer, [right] if isinstance(right, str) else right, "" if prompt.endswith("⁇") else " ")
        for prompt, right in zip(prompts, answers, strict=True)
    ]
    ranks = []
    with evaluation_mode(model):
        for start in range(0, len(encoded), batch_size):
            inputs = prompt_inputs(model, tokenizer, encoded[start : start + batch_size])
            logits = model(**inputs, logits_to_keep=1, use_cache=False).logits[:, -1]  # (batch, vocab_size)
            check_scores(model, can_rank(logits).tolist(), prompts[start : start + batch_size])
            expected = torch.tensor(_repeat_first(firsts[start : start + batch_size]), device=model.device)
            likeliest = logits.gather(1, expected).amax(dim=1, keepdim=True)  # (batch, 1)
            # the token itself is as likely as itself
            ranks += ((logits >= likeliest).sum(dim=1) - 1).tolist()
    return ranks


def recall_at(ranks: Sequence[int], limits: Sequence[int] = LIMITS) -> dict[str, float]:
    """recall@k for each limit k: the fraction (0..1) of answers with a rank less than k."""
    return {f"recall@{limit}": sum(rank < limit for rank in ranks) / len(ranks) for limit in limits}


def answerable(
    questions: Sequence[Mapping[str, Any]], lines_by_name: Mapping[str, Sequence[str]]
) -> list[tuple[Mapping[str, Any], str]]:
    """The questions that a line of the person answers, each with the text before the answer.

    Of several right answers, it is the first that is in a line. Questions without a name are left out.
    """
    found = []
    for question in questions:
        name = question["name"]
        texts = [text_after_name(line, name) for line in lines_by_name.get(name, ())] if name else []
        befores = (text[: text.index(answer)] for answer in answers_of(question) for text in texts if answer in text)
        before = next(befores, None)
        if before is not None:
            found.append((question, before))
    return found


def _first_tokens(tokenizer: PreTrainedTokenizerBase, answers: Sequence[str], before: str) -> list[int]:
    return [tokens[0] for tokens in _encode(tokenizer, [before + answer for answer in answers])]


def _repeat_first(rows: Sequence[list[int]]) -> list[list[int]]:
    """Rows of equal length, in which the first entry fills up shorter rows."""
    longest = max(map(len, rows))
    return [row + row[:1] * (longest - len(row)) for row in rows]


def _encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    encoded = tokenizer(list(texts))["input_ids"]
    for text, tokens in zip(texts, encoded, strict=True):
        if not tokens:
            raise ValueError(f"{text!r} has no token")
    return encoded
