"""Batched answers of a language model, or of an encoder–decoder, to questions, each with its log probability."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from tqdm.auto import tqdm
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from birthgpt.data.tokenizers import UNKNOWN_ANSWER_TOKEN, question_prompt, unknown_answer_id
from birthgpt.evaluation.prompting import decoder_input, prompt_inputs
from birthgpt.settings import checked, setting

UNKNOWN = "unknown"
"""What a reader sees in place of the unknown-answer token."""


@checked
@dataclass(kw_only=True)
class DecodingSettings:
    """How an answer is written."""

    max_new_tokens: int = setting(48, "longest answer, in tokens", min=1)
    always_answer: bool = setting(False, "never answer unknown, also if the model has learned to")


@checked
@dataclass(kw_only=True)
class AnsweringSettings(DecodingSettings):
    """How questions are answered."""

    batch_size: int = setting(256, "questions answered at a time, in each process", min=1)


@dataclass(frozen=True)
class Answer:
    """An answer and its probability.

    `log_probability` is the natural logarithm of p(answer | question): the sum over the answer's tokens
    and its eos token. An answer that is cut off by the length limit has no eos token.
    """

    text: str
    log_probability: float
    has_end: bool = True
    """Whether the eos token ends it, and not the length limit."""
    is_unknown: bool = False
    """Whether it begins with the unknown-answer token; then `text` is empty, and right for no question."""

    @property
    def shown(self) -> str:
        """The text for a reader: `unknown` for an unknown answer."""
        return UNKNOWN if self.is_unknown else self.text

    @property
    def written(self) -> str:
        """The text as the model writes it: ␀ for an unknown answer."""
        return UNKNOWN_ANSWER_TOKEN if self.is_unknown else self.text

    @property
    def probability(self) -> float:
        """p(answer | question), in 0..1."""
        return math.exp(self.log_probability)


def answer_questions(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[str],
    *,
    batch_size: int = 256,
    max_new_tokens: int = 48,
    num_beams: int = 1,
    always_answer: bool = False,
    progress: bool = False,
    accelerator: Accelerator | None = None,
) -> list[Answer]:
    """Answer questions by greedy decoding or beam search, in the order of the questions.

    The prompt is the question with its ⁇. The answer is the text that the model generates up to the eos
    token, without outer spaces. Decoding depends only on the arguments: the generation config of
    the model is not used. Beam search looks for the answer with the highest `log_probability`, without a
    reward or penalty for length.

    Args:
        batch_size: questions answered at once, on each process.
        max_new_tokens: longest answer in tokens, including its eos token; less if a long question leaves
            less room in a model with learned positions.
        num_beams: 1 for greedy decoding.
        always_answer: never write the unknown-answer token. The probability of the answer stays that of the model.
        progress: show a progress bar.
        accelerator: with several processes, each answers a part of the questions and returns all answers.
            Each process must have the whole model.

    Raises:
        ValueError: a size is less than 1; the tokenizer has no mask, eos or pad token, or appends tokens; a
            question is too long for the model; scores are not finite, or equal for all tokens.
    """
    settings: dict[str, Any] = {"batch_size": batch_size, "max_new_tokens": max_new_tokens, "num_beams": num_beams}
    settings |= {"always_answer": always_answer, "progress": progress, "accelerator": accelerator}
    return [answers[0] for answers in _generate(model, tokenizer, questions, 1, **settings)]


def candidate_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[str],
    *,
    num_beams: int,
    batch_size: int = 256,
    max_new_tokens: int = 48,
    always_answer: bool = False,
) -> list[list[Answer]]:
    """The answers of all `num_beams` beams to each question, the most likely first; arguments as `answer_questions`.

    Two beams may have the same text, by other tokens.
    """
    settings: dict[str, Any] = {"batch_size": batch_size, "max_new_tokens": max_new_tokens, "num_beams": num_beams}
    settings |= {"always_answer": always_answer, "progress": False, "accelerator": None}
    return _generate(model, tokenizer, questions, num_beams, **settings)


def _generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[str],
    num_answers: int,
    *,
    batch_size: int,
    max_new_tokens: int,
    num_beams: int,
    always_answer: bool,
    progress: bool,
    accelerator: Accelerator | None,
) -> list[list[Answer]]:
    """The first `num_answers` answers to each question."""
    sizes = {"batch_size": batch_size, "max_new_tokens": max_new_tokens, "num_beams": num_beams}
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name}={size}: it must be at least 1")
    if accelerator is not None:
        model = accelerator.unwrap_model(model)
    lengths = check_question_lengths(model, tokenizer, questions)
    # the decoder of an encoder–decoder has its own positions, and begins with ⁇
    begun = [1 if model.config.is_encoder_decoder else length for length in lengths]
    budgets = [min(max_new_tokens, _room_for_answer(model.config, length)) for length in begun]

    longest_first = sorted(range(len(questions)), key=lambda index: -lengths[index])
    if accelerator is not None:
        longest_first = longest_first[accelerator.process_index :: accelerator.num_processes]
        progress = progress and accelerator.is_local_main_process

    numbered_answers: list[tuple[int, list[Answer]]] = []
    with evaluation_mode(model), torch.inference_mode():
        batches = list(_batches(longest_first, budgets, batch_size))
        for batch in tqdm(batches, "answering", disable=not progress):
            generation_config = _generation_config(tokenizer, budgets[batch[0]], num_beams, always_answer, num_answers)
            asked = [questions[index] for index in batch]
            answers = _answer_batch(model, tokenizer, asked, generation_config)
            numbered_answers.extend(zip(batch, answers, strict=True))

    if accelerator is not None:
        numbered_answers = gather_object(numbered_answers)
    answers = [answer for _, answer in sorted(numbered_answers, key=lambda pair: pair[0])]
    # on all processes, after the answers of all of them
    check_scores(model, [math.isfinite(answer.log_probability) for answer, *_ in answers], questions)
    return answers


def check_question_lengths(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, questions: Sequence[str]
) -> list[int]:
    """The length of each question in tokens, including its ⁇.

    Raises:
        ValueError: a question leaves no token of `max_position_embeddings` for its answer, or does not
            have exactly one ⁇ at its end.
    """
    lengths = [len(token_ids) for token_ids in _encode(tokenizer, questions)]
    block_size = model.config.max_position_embeddings
    too_long = [index for index, length in enumerate(lengths) if length > block_size - 1]
    if too_long:
        first = too_long[0]
        raise ValueError(
            f"question {first + 1} of {len(lengths)}, {questions[first]!r}, has {lengths[first]} tokens with "
            f"its {tokenizer.mask_token}, but the model takes at most {block_size - 1} "
            f"(max_position_embeddings={block_size}, minus one for the answer); {len(too_long)} are too long"
        )
    return lengths


def _encode(tokenizer: PreTrainedTokenizerBase, questions: Sequence[str]) -> list[list[int]]:
    if isinstance(questions, str):
        raise ValueError(f"questions is one string, {questions!r}: give a list of questions")
    for token in ("mask_token", "eos_token", "pad_token"):
        if getattr(tokenizer, token) is None:
            raise ValueError(f"the tokenizer has no {token}: mask begins answers, eos ends them, and pad fills batches")
    if not len(questions):
        return []
    encoded = tokenizer([question_prompt(tokenizer, question) for question in questions])["input_ids"]
    for question, token_ids in zip(questions, encoded, strict=True):
        if tokenizer.mask_token in question:
            raise ValueError(f"the question {question!r} contains {tokenizer.mask_token}: leave it out")
        if token_ids[-1:] != [tokenizer.mask_token_id] or token_ids.count(tokenizer.mask_token_id) > 1:
            raise ValueError(
                f"the tokenizer appends tokens to {question!r}: use the tokenizer of the checkpoint, which appends none"
            )
    return encoded


def _room_for_answer(config, question_length: int) -> int:
    # the last token of an answer is never an input, so it needs no position
    return config.max_position_embeddings - question_length + 1 if positions_are_learned(config) else 2**31


def positions_are_learned(config) -> bool:
    """Whether the model, also one of another package, has learned positions, whose number is limited."""
    position_embedding_type = getattr(config, "position_embedding_type", None)
    if position_embedding_type is None:
        return getattr(config, "rope_parameters", None) is None
    return position_embedding_type == "learned"


def _batches(indices: Sequence[int], budgets: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    # one budget per batch: otherwise the longest question would shorten all answers of the batch
    for _, same_budget in groupby(indices, key=lambda index: budgets[index]):
        group = list(same_budget)
        yield from (group[start : start + batch_size] for start in range(0, len(group), batch_size))


def _generation_config(
    tokenizer: PreTrainedTokenizerBase, max_new_tokens: int, num_beams: int, always_answer: bool, num_answers: int
) -> GenerationConfig:
    # without a length penalty a beam's score is the log probability of its answer
    more: dict[str, Any] = {}
    if num_beams > 1:
        more = {"num_beams": num_beams, "length_penalty": 0.0, "num_return_sequences": num_answers}
    unknown = unknown_answer_id(tokenizer)
    if always_answer and unknown is not None:
        # scores of a token that is left out are infinite; probabilities are taken from the logits
        more |= {"suppress_tokens": [unknown], "output_logits": True}
    return GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        decoder_start_token_id=tokenizer.mask_token_id,
        return_dict_in_generate=True,
        output_scores=True,
        **more,
    )


@contextmanager
def evaluation_mode(model: PreTrainedModel) -> Iterator[None]:
    """Context without dropout and without the model's generation config; both are restored afterwards."""
    # generate() takes missing values from the generation config of the model, so an empty one replaces it
    own_generation_config, model.generation_config = model.generation_config, GenerationConfig()
    training_modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        model.generation_config = own_generation_config
        for module, training in training_modes:
            module.training = training


def _answer_batch(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: list[str],
    generation_config: GenerationConfig,
) -> list[list[Answer]]:
    prompts = tokenizer([question_prompt(tokenizer, question) for question in questions])["input_ids"]
    inputs = prompt_inputs(model, tokenizer, prompts)
    output = model.generate(**inputs, generation_config=generation_config)  # type: ignore[operator]
    tokens = output.sequences[:, decoder_input(inputs).shape[1] :]
    closings = (tokens == tokenizer.eos_token_id).long()
    # the first eos token ends the answer; generate() only writes padding after it
    closed_before = closings.cumsum(dim=1) - closings > 0
    scores = output.scores if output.logits is None else output.logits
    if generation_config.num_beams is None:
        log_probabilities = _greedy_log_probabilities(tokens, scores, closed_before)
    else:
        # the first beam of each question has the scores after the question
        usable = can_rank(scores[0][:: generation_config.num_beams])
        usable = usable.repeat_interleave(generation_config.num_return_sequences)
        log_probabilities = output.sequences_scores.masked_fill(~usable, math.nan)

    lengths = (~closed_before & (closings == 0)).sum(dim=1).tolist()
    # if special tokens were skipped, an answer that contains a pad could be counted as right
    texts = tokenizer.batch_decode(
        [row[:length] for row, length in zip(tokens.tolist(), lengths, strict=True)],
        skip_special_tokens=False,
        clean_up_tokenization_spaces=False,
    )
    # -1 is no token
    unknown = (tokens[:, 0] == (unknown_answer_id(tokenizer) or -1)).tolist()
    answers = [
        Answer("" if is_unknown else text.strip(), log_probability, has_end, is_unknown)
        for text, log_probability, has_end, is_unknown in zip(
            texts, log_probabilities.tolist(), closings.any(dim=1).tolist(), unknown, strict=True
        )
    ]
    each = len(answers) // len(questions)
    return [answers[start : start + each] for start in range(0, len(answers), each)]


def _greedy_log_probabilities(
    tokens: torch.Tensor, scores: Sequence[torch.Tensor], closed_before: torch.Tensor
) -> torch.Tensor:
    """The sums of log p over `tokens` (batch, new tokens) up to the eos token, of shape (batch,).

    `scores` contains the logits (batch, vocabulary) of each step. Where they rank no token, the sum is NaN.
    """
    token_log_probabilities = torch.stack(
        [
            logits.gather(1, chosen[:, None]).squeeze(1) - logits.logsumexp(dim=1)
            for logits, chosen in zip(scores, tokens.unbind(dim=1), strict=True)
        ],
        dim=1,
    )
    usable = torch.stack([can_rank(logits) for logits in scores], dim=1)
    return token_log_probabilities.masked_fill(~usable, math.nan).masked_fill(closed_before, 0.0).sum(dim=1)


def can_rank(scores: torch.Tensor) -> torch.Tensor:
    """(batch, tokens) → (batch,): whether the scores are all finite, and not all equal: then they rank no token."""
    return scores.isfinite().all(dim=-1) & (scores.amax(dim=-1) > scores.amin(dim=-1))


def check_scores(model: PreTrainedModel, usable: Sequence[bool], prompts: Sequence[str]) -> None:
    """Raise ValueError for the first prompt for which the scores of the model are not usable."""
    for is_usable, prompt in zip(usable, prompts, strict=True):
        if not is_usable:
            raise ValueError(
                f"the scores of {model.name_or_path or 'the model'} for {prompt!r} are not finite, or equal for all "
                "tokens: its weights are damaged, or its training diverged"
            )
