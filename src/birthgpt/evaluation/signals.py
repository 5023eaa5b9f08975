"""Signals that tell whether an answer is right: what a model says about its own answer, and about the name."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from birthgpt.data.tokenizers import question_prompt, unknown_answer_id
from birthgpt.evaluation.answering import Answer, answer_questions, candidate_answers
from birthgpt.evaluation.name_likelihood import NameLikelihood
from birthgpt.evaluation.ngram_norms import name_ngram_norm
from birthgpt.evaluation.scoring import Score, score_answers
from birthgpt.evaluation.wordings import Wordings

Member = tuple[PreTrainedModel, PreTrainedTokenizerBase]

SIGNALS = {
    "log_probability": "log p(answer | question)",
    "weakest_token": "the smallest log p of a token of the answer",
    "margin": "log p of the most likely beam − log p of the next beam with another text",
    "entropy": "entropy of the answers of all beams; what no beam holds counts as one more answer",
    "wording_agreement": "log of the mean p(answer) over the other wordings of the question",
    "checkpoint_agreement": "log of the mean p(answer) over other checkpoints, and over all wordings",
    "name_log_probability": "log p(answer | name alone)",
    "name_rank": "log(1 + rank of the answer's first token after the name alone)",
    "name_likelihood": "mean log p of the name's characters among the names of the corpus",
    "name_ngram_norm": "the smallest norm of an n-gram embedding of the name",
    "unknown_log_probability": "log p(the token unknown | question)",
}
"""Each signal with its meaning. Logarithms are natural. A signal that cannot be computed is NaN."""

LEAST = -30.0
"""Logarithms of probabilities below e^−30 are taken for this."""


@dataclass(frozen=True)
class SignalSource:
    """What signals are computed from.

    Args:
        model, tokenizer: the checkpoint that answers.
        wordings: the wordings of questions; they tell the name in a question, and how else it can be asked.
        others: further checkpoints, for the agreement with them.
        name_likelihood: made of the names of the corpus, if there is one.
        num_beams: beams of the search for other answers. The answer itself is decoded greedily.
        batch_size: questions at a time, in each process.
        max_new_tokens: the longest answer, in tokens.
        always_answer: never answer unknown.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    wordings: Wordings = field(default_factory=Wordings)
    others: Sequence[Member] = ()
    name_likelihood: NameLikelihood | None = None
    num_beams: int = 4
    batch_size: int = 256
    max_new_tokens: int = 48
    always_answer: bool = False


@dataclass(frozen=True)
class AnswerSignals:
    """An answer with its signals.

    Args:
        answer: the greedy answer, the same as `answer_questions` gives.
        values: each of `SIGNALS`; NaN where it cannot be computed.
        name: the name in the question; None if it is not known.
        in_scope: whether the question has one of the known wordings.
    """

    answer: Answer
    values: dict[str, float]
    name: str | None
    in_scope: bool = True


def collect_signals(
    source: SignalSource,
    questions: Sequence[str],
    *,
    answers: Sequence[Answer] | None = None,
    names: Sequence[str | None] | None = None,
    accelerator: Accelerator | None = None,
) -> list[AnswerSignals]:
    """Answer questions, and compute the signals of each answer.

    Beyond the answers, this takes a beam search, one pass over all pairs of a prompt and the answer (the question, its
    other wordings, and the name alone), and one pass by each other checkpoint.

    Args:
        answers: the answers, if they are known; otherwise the greedy answers of the model.
        names: the names in the questions, where they are known; otherwise the wordings tell them.
        accelerator: with several processes, each computes a part of the questions, and returns all.

    Raises:
        ValueError: see `answer_questions`.
    """
    if accelerator is not None and accelerator.num_processes > 1:
        mine = list(range(len(questions)))[accelerator.process_index :: accelerator.num_processes]
        found = collect_signals(
            source,
            [questions[index] for index in mine],
            answers=None if answers is None else [answers[index] for index in mine],
            names=None if names is None else [names[index] for index in mine],
        )
        numbered = gather_object(list(zip(mine, found, strict=True)))
        return [signals for _, signals in sorted(numbered, key=lambda pair: pair[0])]
    decoding: dict[str, Any] = {
        "batch_size": source.batch_size,
        "max_new_tokens": source.max_new_tokens,
        "always_answer": source.always_answer,
    }
    if answers is None:
        answers = answer_questions(source.model, source.tokenizer, questions, **decoding)
    beams = candidate_answers(source.model, source.tokenizer, questions, num_beams=source.num_beams, **decoding)
    texts = [answer.written for answer in answers]
    in_wording = [source.wordings.name_in(question) for question in questions]
    names = [given or found for given, found in zip(names or [None] * len(questions), in_wording, strict=True)]
    of_prompts = _prompt_signals(source, questions, names, texts)
    of_others = _other_checkpoints(source, questions, texts)
    return [
        AnswerSignals(
            answer,
            dict.fromkeys(SIGNALS, math.nan) | beam_signals(found) | prompts | others | _name_signals(source, name),
            name,
            in_scope=place is not None,
        )
        for answer, found, prompts, others, name, place in zip(
            answers, beams, of_prompts, of_others, names, in_wording, strict=True
        )
    ]


def beam_signals(beams: Sequence[Answer]) -> dict[str, float]:
    """`margin` and `entropy` of the answers of a beam search; the probabilities of equal texts are added."""
    masses: dict[str, float] = {}
    for beam in beams:
        masses[beam.written] = masses.get(beam.written, 0.0) + beam.probability
    first, second = (sorted(masses.values(), reverse=True) + [0.0])[:2]
    rest = max(0.0, 1 - sum(masses.values()))
    return {
        "margin": _log(first) - _log(second),
        "entropy": -sum(mass * math.log(mass) for mass in (*masses.values(), rest) if mass > 0),
    }


def log_mean(logarithms: Sequence[float]) -> float:
    """The logarithm of the mean of probabilities, given by their logarithms; NaN for none."""
    if not logarithms:
        return math.nan
    return max(LEAST, torch.tensor(logarithms, dtype=torch.float64).logsumexp(0).item() - math.log(len(logarithms)))


def _prompt_signals(
    source: SignalSource, questions: Sequence[str], names: Sequence[str | None], texts: Sequence[str]
) -> list[dict[str, float]]:
    """The signals of all prompts, in one pass: the question, the name alone, and the other wordings."""
    asked = [
        [question, *([] if name is None else [name, *source.wordings.others(question)])]
        for question, name in zip(questions, names, strict=True)
    ]
    scores = iter(
        score_answers(
            source.model,
            source.tokenizer,
            [question_prompt(source.tokenizer, prompt) for prompts in asked for prompt in prompts],
            [text for prompts, text in zip(asked, texts, strict=True) for _ in prompts],
            batch_size=source.batch_size,
            unknown_token_id=unknown_answer_id(source.tokenizer),
        )
    )
    return [_signals_of_scores([next(scores) for _ in prompts]) for prompts in asked]


def _signals_of_scores(scores: Sequence[Score]) -> dict[str, float]:
    question, *after_name = scores
    found = {
        "log_probability": max(LEAST, question.log_probability),
        "weakest_token": max(LEAST, question.weakest_token),
        "unknown_log_probability": _at_least(question.unknown_log_probability),
    }
    if after_name:
        name, *wordings = after_name
        found["name_log_probability"] = max(LEAST, name.log_probability)
        found["name_rank"] = math.log1p(name.first_rank)
        found["wording_agreement"] = log_mean([score.log_probability for score in wordings])
    return found


def _other_checkpoints(
    source: SignalSource, questions: Sequence[str], texts: Sequence[str]
) -> Iterator[dict[str, float]]:
    asked = [[question, *source.wordings.others(question)] for question in questions]
    answers = [text for wordings, text in zip(asked, texts, strict=True) for _ in wordings]
    scores = []
    for model, tokenizer in source.others:
        prompts = [question_prompt(tokenizer, prompt) for wordings in asked for prompt in wordings]
        scores.append(iter(score_answers(model, tokenizer, prompts, answers, batch_size=source.batch_size)))
    for wordings in asked:
        found = [next(of_one).log_probability for of_one in scores for _ in wordings]
        yield {"checkpoint_agreement": log_mean(found)}


def _name_signals(source: SignalSource, name: str | None) -> dict[str, float]:
    if name is None:
        return {}
    found = {"name_ngram_norm": name_ngram_norm(source.model, source.tokenizer, name)}
    if source.name_likelihood is not None:
        found["name_likelihood"] = source.name_likelihood(name)
    return found


def _log(probability: float) -> float:
    return max(LEAST, math.log(probability)) if probability > 0 else LEAST


def _at_least(logarithm: float) -> float:
    return logarithm if math.isnan(logarithm) else max(LEAST, logarithm)
