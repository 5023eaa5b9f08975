"""Errors for inputs that a model would silently misread, with what to do instead."""

import torch
from transformers.cache_utils import Cache

from .block import Block


def check_tokens(input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None, needs_ids: bool) -> None:
    """Raise ValueError unless one is given, ids as integers, with at least one token; n-grams need `input_ids`."""
    if (input_ids is None) == (inputs_embeds is None):
        raise ValueError("give exactly one of input_ids and inputs_embeds")
    if input_ids is None and needs_ids:
        raise ValueError("ngram_orders need token ids: give input_ids instead of inputs_embeds")
    given: torch.Tensor = inputs_embeds if input_ids is None else input_ids  # type: ignore[assignment]
    if input_ids is not None and (input_ids.is_floating_point() or input_ids.dtype == torch.bool):
        raise ValueError(f"input_ids must be integers, not {input_ids.dtype}: give embeddings as inputs_embeds")
    rows, length = given.shape[:2]
    if rows == 0 or length == 0:
        raise ValueError(f"a batch of {rows} rows and {length} tokens is empty: give at least one token a row")


def check_length(length: int, limit: int) -> None:
    """Raise ValueError for a sequence that is longer than the learned positions."""
    if length > limit:
        raise ValueError(
            f"a sequence of {length} tokens does not fit max_position_embeddings={limit}: give a shorter one"
        )


def check_attention_mask(attention_mask: torch.Tensor | dict | None, config, layers: list[Block]) -> None:
    """Raise ValueError for a 4-D mask that some layer would ignore or misread."""
    if not isinstance(attention_mask, torch.Tensor) or attention_mask.ndim != 4:
        return
    implementation = config._attn_implementation
    if "flash" in implementation:
        raise ValueError(
            "flash attention does not support a 4-D attention_mask: set attn_implementation to sdpa or eager"
        )
    if attention_mask.dtype == torch.bool and implementation != "sdpa":
        raise ValueError(
            f"{implementation} attention adds a 4-D attention_mask to the scores, so a boolean mask would hide "
            "nothing: give 0 for a visible key and a large negative number for a hidden key"
        )
    if (name := reads_by_order(config, layers)) is not None:
        raise ValueError(f"{name} does not support a 4-D attention_mask: give a (batch, length) mask of padding")


def check_packing(position_ids: torch.Tensor | None, config, layers: list[Block]) -> None:
    """Raise ValueError for several sequences in a row, whose positions restart, if a layer cannot separate them."""
    if position_ids is None:
        return
    name = reads_by_order(config, layers)
    if name is not None and bool((position_ids.diff(dim=-1) < 0).any()):
        raise ValueError(
            f"{name} cannot separate sequences in one row, whose position_ids restart: give each its own row"
        )


def check_branches(
    position_ids: torch.Tensor | None, past_key_values: Cache | None, config, layers: list[Block]
) -> None:
    """Raise ValueError for `branch_ids` if one branch would see another."""
    if position_ids is None:
        raise ValueError("branch_ids need position_ids that restart after the shared prefix")
    if past_key_values is not None:
        raise ValueError("branch_ids cannot be combined with a cache: leave out past_key_values")
    if "flash" in config._attn_implementation:
        raise ValueError("flash attention cannot separate branches: set attn_implementation to sdpa or eager")
    for name, layer in zip(config.attention_types, layers, strict=True):
        if not layer.supports_branches:
            raise ValueError(f"attention_type={name!r} cannot take branches: set objective_layout to unrolled")


def reads_by_order(config, layers: list[Block]) -> str | None:
    """The setting that makes a layer read its past in token order, not through a mask; None if there is none."""
    if config.canon_width:
        return f"canon_width={config.canon_width}"
    if config.ngram_orders:
        return f"ngram_orders={config.ngram_orders}"
    for name, layer in zip(config.attention_types, layers, strict=True):
        if layer.mask_type in (None, "boolean"):
            return f"attention_type={name!r}"
    return None
