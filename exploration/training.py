"""Tiny models of the package, trained in seconds."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, get_cosine_schedule_with_warmup

from birthgpt import BirthGPTConfig, BirthGPTForCausalLM
from birthgpt.data.objectives.base import IGNORE
from birthgpt.settings import make_settings
from birthgpt.training.optimizers import OptimizerSettings, build_optimizers

Batch = dict[str, torch.Tensor]
"""The inputs of a model, with `shift_labels`: the target of each position, −100 for none."""

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    # large enough for a width of 32
    "initializer_range": 0.1,
}
"""The settings of a tiny model, if nothing else is given."""

POSITION_RANGE = 0.3
"""The standard deviation of the initial learned positions: they start at zero otherwise, and are learned late."""


def tiny_config(**settings: Any) -> BirthGPTConfig:
    """The configuration of a tiny model."""
    return BirthGPTConfig(**{**SIZES, **settings})


def seeded_model(make: Callable[[], PreTrainedModel], seed: int) -> Any:
    """A model with the initial weights of a seed. The random state outside stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make()
        for name, parameter in model.named_parameters():
            if "embed_positions" in name:
                nn.init.normal_(parameter, std=POSITION_RANGE)
    return model


def tiny_model(seed: int, **settings: Any) -> BirthGPTForCausalLM:
    """A language model with tiny sizes and the initial weights of a seed."""
    return seeded_model(lambda: BirthGPTForCausalLM(tiny_config(**settings)), seed)


def train(
    model: nn.Module,
    draw_batch: Callable[[int], Batch],
    *,
    steps: int,
    learning_rate: float,
    loss_of: Callable[[Any, Batch], torch.Tensor] | None = None,
    after_step: Callable[[int], None] | None = None,
) -> list[float]:
    """Train by AdamW with a short warm-up and a cosine schedule; return the loss of each step.

    Args:
        draw_batch: the batch of a step, from 0.
        loss_of: the loss of a model and a batch; that of the language model if not given.
        after_step: called with the number of updates so far.
    """
    settings = make_settings(OptimizerSettings, optimizer="adamw", learning_rate=learning_rate)
    (optimizer,) = build_optimizers(model, settings)
    schedule = get_cosine_schedule_with_warmup(optimizer, steps // 10, steps)
    loss_of = loss_of or (lambda model, batch: model(**batch, use_cache=False).loss)
    losses = []
    model.train()
    for step in range(steps):
        loss = loss_of(model, draw_batch(step))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if after_step is not None:
            after_step(step + 1)
    model.eval()
    return losses


@torch.inference_mode()
def accuracy(model: nn.Module, batch: Batch) -> float:
    """The share of the targets of a batch that a language model predicts."""
    targets = batch["shift_labels"]
    inputs = {name: values for name, values in batch.items() if name != "shift_labels"}
    is_right = model(**inputs, use_cache=False).logits.argmax(dim=-1) == targets
    return float(is_right[targets != IGNORE].double().mean())
