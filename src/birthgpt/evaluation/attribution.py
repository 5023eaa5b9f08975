"""Which tokens of a question an answer depends on: gradient × input, and what ⁇ attends to in each layer."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from birthgpt.data.tokenizers import question_prompt
from birthgpt.evaluation.answering import evaluation_mode
from birthgpt.evaluation.prompting import prompt_inputs


@dataclass(frozen=True)
class Attribution:
    """How much each token of a question contributes to an answer.

    Args:
        tokens: the text of each token of the question.
        values: ∇_e log p(answer | question) · e for the embedding e of each token: how much log p changes, to first
            order, if the embedding grows by its own length.
    """

    tokens: tuple[str, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class AttentionMap:
    """What ⁇ attends to.

    Args:
        tokens: the text of each token of the question, with its ⁇ unless another stack reads it.
        layers: for each layer, the weight of each token, the mean over the heads; None for a layer without weights
            over tokens.
        missing: why a layer has none; "" if all have.
    """

    tokens: tuple[str, ...]
    layers: tuple[tuple[float, ...] | None, ...]
    missing: str


def attribute_answer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, question: str, answer: str
) -> Attribution:
    """The attribution of an answer to the tokens of its question, by gradient × input.

    Embeddings of n-grams belong to the token at which they end. Works for every attention type, because it needs no
    weights (Simonyan et al., 1312.6034; Shrikumar et al., 1605.01713).

    Args:
        answer: its text, as the model writes it.
    """
    text = question_prompt(tokenizer, question)
    prompt = tokenizer(text)["input_ids"]
    reply = tokenizer(answer)["input_ids"] if answer else []
    targets = torch.tensor([*reply, tokenizer.eos_token_id], device=model.device)
    inputs = prompt_inputs(model, tokenizer, [prompt + reply])
    with evaluation_mode(model), torch.enable_grad(), _kept_embeddings(model) as kept:
        logits = model(**inputs, use_cache=False).logits[0, -len(targets) :]  # (answer tokens, vocab_size)
        log_probability = logits.float().log_softmax(dim=-1).gather(1, targets[:, None]).sum()
        gradients = torch.autograd.grad(log_probability, kept, allow_unused=True)
    question_length = len(prompt) - 1
    values = torch.zeros(question_length)
    for states, gradient in zip(kept, gradients, strict=True):
        # what the decoder of an encoder–decoder embeds is the answer
        if gradient is not None and states.shape[1] >= question_length:
            products = (states * gradient).sum(dim=-1)[0]  # (length)
            values = values + products[:question_length].detach().float().cpu()
    return Attribution(_texts(tokenizer, text)[:question_length], tuple(values.tolist()))


@torch.no_grad()
def attention_of_question(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, question: str) -> AttentionMap:
    """What ⁇, from which the answer is written, attends to in each layer; in an encoder–decoder, by cross-attention.

    Weights over slots or latents (ABC, Linformer, Perceiver) are not over tokens, and are left out; types with a state
    instead of weights have none.
    """
    text = question_prompt(tokenizer, question)
    prompt = tokenizer(text)["input_ids"]
    inputs = prompt_inputs(model, tokenizer, [prompt])
    with evaluation_mode(model), _eager(model):
        output = model(**inputs, use_cache=False, output_attentions=True)
    is_pair = model.config.is_encoder_decoder
    read = _texts(tokenizer, text)[: len(prompt) - 1 if is_pair else None]
    found = (output.cross_attentions if is_pair else output.attentions) or ()
    layers = [
        weights[0, :, -1].float().mean(dim=0) if weights is not None and weights.shape[-1] == len(read) else None
        for weights in found
    ]
    layers += [None] * (model.config.num_hidden_layers - len(layers))
    kinds = [
        kind
        for kind, weights in zip(getattr(model.config, "attention_types", ["this"] * len(layers)), layers, strict=False)
        if weights is None
    ]
    missing = ", ".join(dict.fromkeys(kinds))
    return AttentionMap(
        read,
        tuple(None if weights is None else tuple(weights.tolist()) for weights in layers),
        f"attention type {missing} gives no weights over tokens" if missing else "",
    )


def _texts(tokenizer: PreTrainedTokenizerBase, prompt: str) -> tuple[str, ...]:
    """The text of each token of a prompt, with the spaces before it; empty for a further part of one character."""
    ends = [end for _, end in tokenizer(prompt, return_offsets_mapping=True)["offset_mapping"]]
    return tuple(prompt[start:end] for start, end in zip([0, *ends], ends, strict=False))


@contextmanager
def _kept_embeddings(model: PreTrainedModel) -> Iterator[list[torch.Tensor]]:
    """Context in which the embeddings of tokens and of n-grams are collected, as inputs of a gradient."""
    kept: list[torch.Tensor] = []

    def keep(module: torch.nn.Module, given: Any, output: torch.Tensor) -> torch.Tensor:
        # a copy that needs a gradient also if the table is frozen
        states = output.detach().requires_grad_()
        kept.append(states)
        return states

    embeddings: Any = model.get_input_embeddings()
    ngrams = [module for name, module in model.named_modules() if name.rpartition(".")[2] == "embed_ngrams"]
    hooks = [module.register_forward_hook(keep) for module in (embeddings, *ngrams)]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _eager(model: PreTrainedModel) -> Iterator[None]:
    """Context with the implementation of attention that returns weights."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)
