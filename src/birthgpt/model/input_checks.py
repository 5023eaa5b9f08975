"""Inputs that a model would silently misread are errors here, with what to do instead."""

import torch
from transformers.cache_utils import Cache

from .block import Block


def check_tokens(input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None, needs_ids: bool) -> None:
    """ValueError unless exactly one is given, and the ids where n-grams need them."""
    if (input_ids is None) == (inputs_embeds is None):
        raise ValueError("give exactly one of input_ids and inputs_embeds")
    if input_ids is None and needs_ids:
        raise ValueError("ngram_orders need the tokens themselves: give input_ids instead of inputs_embeds")


def check_length(length: int, limit: int) -> None:
    """ValueError for a sequence that is longer than the learned positions."""
    if length > limit:
        raise ValueError(f"a sequence of {length} tokens does not fit max_position_embeddings={limit}")


def check_attention_mask(attention_mask: torch.Tensor | dict | None, config, layers: list[Block]) -> None:
    """ValueError for a 4-D mask that some layer would ignore or misread."""
    if not isinstance(attention_mask, torch.Tensor) or attention_mask.ndim != 4:
        return
    implementation = config._attn_implementation
    if "flash" in implementation:
        raise ValueError("flash attention takes no 4-D attention_mask: use sdpa or eager for this call")
    if attention_mask.dtype == torch.bool and implementation != "sdpa":
        raise ValueError(
            f"{implementation} attention adds a 4-D attention_mask to the scores, so a boolean one would hide "
            "nothing: give 0 where a key is visible and a large negative number elsewhere"
        )
    if (name := reads_by_order(config, layers)) is not None:
        raise ValueError(f"{name} takes no 4-D attention_mask: give a (batch, length) mask of padding")


def check_packing(position_ids: torch.Tensor | None, config, layers: list[Block]) -> None:
    """ValueError for several sequences in one row, whose positions restart, where a layer cannot keep them apart."""
    if position_ids is None:
        return
    name = reads_by_order(config, layers)
    if name is not None and bool((position_ids.diff(dim=-1) < 0).any()):
        raise ValueError(f"{name} cannot keep sequences apart whose position_ids restart: give each its own row")


def check_branches(
    position_ids: torch.Tensor | None, past_key_values: Cache | None, config, layers: list[Block]
) -> None:
    """ValueError for `branch_ids` where one branch would see another."""
    if position_ids is None:
        raise ValueError("branch_ids need position_ids that restart after the shared prefix")
    if past_key_values is not None:
        raise ValueError("branch_ids are for training: they cannot be combined with a cache")
    if "flash" in config._attn_implementation:
        raise ValueError("flash attention cannot keep branches apart: set attn_implementation to sdpa or eager")
    for name, layer in zip(config.attention_types, layers, strict=True):
        if not layer.supports_branches:
            raise ValueError(f"attention_type={name!r} cannot take branches: set objective_layout to unrolled")


def reads_by_order(config, layers: list[Block]) -> str | None:
    """The setting by which a layer reads its past in the order of the tokens, not through a mask; None if none does."""
    if config.canon_width:
        return f"canon_width={config.canon_width}"
    if config.ngram_orders:
        return f"ngram_orders={config.ngram_orders}"
    for name, layer in zip(config.attention_types, layers, strict=True):
        if layer.mask_type in (None, "boolean"):
            return f"attention_type={name!r}"
    return None
