"""Errors for inputs that a model would silently misread, with what to do instead."""

from typing import Any

import torch
from transformers.cache_utils import Cache
from transformers.utils import is_tracing

from .block import Block
from .masks import token_mask_of
from .predecessors import number_sequences


def check_tokens(
    input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None, needs_ids: bool, prefix: str = ""
) -> None:
    """Raise ValueError unless one is given, ids as integers, with at least one token; n-grams need `input_ids`.

    `prefix` begins their names: `decoder_` for a decoder with an encoder.
    """
    if (input_ids is None) == (inputs_embeds is None):
        raise ValueError(f"give exactly one of {prefix}input_ids and {prefix}inputs_embeds")
    if input_ids is None and needs_ids:
        raise ValueError(f"ngram_orders need token ids: give {prefix}input_ids instead of {prefix}inputs_embeds")
    given: torch.Tensor = inputs_embeds if input_ids is None else input_ids  # type: ignore[assignment]
    if input_ids is not None and (input_ids.is_floating_point() or input_ids.dtype == torch.bool):
        raise ValueError(
            f"{prefix}input_ids must be integers, not {input_ids.dtype}: give embeddings as {prefix}inputs_embeds"
        )
    rows, length = given.shape[:2]
    if rows == 0 or length == 0:
        raise ValueError(f"a batch of {rows} rows and {length} tokens is empty: give at least one token a row")


def check_positions(position_ids: torch.Tensor, limit: int, most: int | None = None) -> None:
    """Raise ValueError for a position that has no learned vector; a graph cannot stop for it.

    Args:
        position_ids: (batch or 1, length).
        limit: the number of learned positions.
        most: the number of tokens with padding, if it bounds the positions: up to `limit`, positions are not read.
    """
    if is_tracing(position_ids) or position_ids.is_meta or not position_ids.numel():
        return
    if most is not None and most <= limit:
        # reading a value on a GPU waits for the GPU
        return
    first, last = (int(bound) for bound in position_ids.aminmax())
    if first < 0:
        raise ValueError(f"position_ids contain {first}: the first learned position is 0")
    if last >= limit:
        raise ValueError(
            f"a sequence of {last + 1} tokens does not fit max_position_embeddings={limit}: give a shorter one"
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


def packed_sequences(
    position_ids: torch.Tensor | None,
    attention_mask: torch.Tensor | dict | None,
    past_key_values: Cache | None,
    config,
    layers: list[Block],
) -> torch.Tensor | None:
    """The sequences of a packed row, whose positions restart, as branches without a prefix; None if no row is packed.

    Returns:
        (batch or 1, length), k > 0 for the kth sequence of a row, −1 for padding. None for flash attention, which
        separates the sequences of a single row itself.

    Raises:
        ValueError: some layer cannot separate the sequences, or a cache is given.
    """
    is_mask_of_padding = attention_mask is None or (
        isinstance(attention_mask, torch.Tensor) and attention_mask.ndim == 2
    )
    if position_ids is None or position_ids.shape[-1] == 1 or not is_mask_of_padding:
        return None
    # a graph cannot depend on values: it always separates, if it can and has no cache
    can_read = not (is_tracing(position_ids) or position_ids.is_meta)
    if past_key_values is not None and not can_read:
        return None
    token_mask = token_mask_of(attention_mask, position_ids.shape[-1])
    sequences = number_sequences(position_ids, token_mask)
    if can_read and not bool((sequences > 1).any()):
        return None
    if past_key_values is not None:
        raise ValueError(
            "position_ids restart, and sequences in one row cannot be combined with a cache: leave out past_key_values"
        )
    if "flash" in config._attn_implementation:
        _check_flash_packing(position_ids, token_mask, sequences, config, layers)
        return None
    for name, layer in zip(config.attention_types, layers, strict=True):
        if not (layer.supports_branches and config.is_causal):
            if not can_read:
                return None
            raise ValueError(
                f"attention_type={name!r} cannot separate sequences in one row, whose position_ids restart: "
                "give each its own row"
            )
    return sequences


def _check_flash_packing(
    position_ids: torch.Tensor, token_mask: torch.Tensor | None, sequences: torch.Tensor, config, layers: list[Block]
) -> None:
    """Raise ValueError unless transformers separates the sequences for flash attention."""
    if (name := reads_by_order(config, layers)) is not None:
        raise ValueError(f"{name} cannot separate sequences in one row under flash attention: give each its own row")
    # transformers cuts where a position is the smallest of the row
    starts = int((position_ids == position_ids.min()).sum())
    if len(position_ids) > 1 or token_mask is not None or starts != int(sequences.max()):
        raise ValueError(
            "flash attention separates sequences only in a batch of one row, without attention_mask, where every "
            "sequence starts at the same position: choose attn_implementation sdpa or eager"
        )


def check_bidirectional(branch_ids: torch.Tensor | None, past_key_values: Cache | None, use_cache: Any) -> None:
    """Raise ValueError for what only a causal model has: branches and a cache."""
    if past_key_values is not None or use_cache:
        raise ValueError("a bidirectional model has no cache: leave out past_key_values and use_cache")
    if branch_ids is not None:
        raise ValueError("a bidirectional model cannot separate branches: leave out branch_ids")


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


def reconcile_cached_mask(
    attention_mask: torch.Tensor | dict | None, length: int, past_key_values: Cache | None, config, layers: list[Block]
) -> None:
    """Compare the padding in a cache with that in `attention_mask`, and note the tokens that the mask hides now.

    Layers that mask the past in each call do what the mask says. BigBird can replace the last tokens of a row. A layer
    that keeps sums over tokens cannot take any of them back.

    Raises:
        ValueError: the mask hides tokens, or shows padding, that a layer cannot hide or show any more; or it does not
            cover the cache.
    """
    kept: list[Any] = [layer for layer in getattr(past_key_values, "layers", []) if hasattr(layer, "token_mask")]
    cached = kept[0].token_mask if kept else None
    name, replaces = keeps_what_it_read(config, layers)
    if cached is None or name is None or isinstance(attention_mask, dict) or is_tracing(cached) or cached.is_meta:
        return
    if attention_mask is None:
        mask = torch.ones_like(cached)
    elif attention_mask.shape[1] == cached.shape[1] + length:
        mask = attention_mask[:, : cached.shape[1]].bool()
    else:
        raise ValueError(
            f"attention_mask has {attention_mask.shape[1]} columns: give {cached.shape[1]} for the cache and {length} "
            "for the new tokens"
        )
    if torch.equal(mask, cached):
        return
    # the last tokens of a row are hidden if all kept tokens have the number that they had
    hides_the_last = (cached >= mask).all() & ((cached.cumsum(dim=1) == mask.cumsum(dim=1)) | ~mask).all()
    if not (replaces and bool(hides_the_last)):
        raise ValueError(
            f"attention_mask takes other tokens of the cache for padding than earlier calls did, and {name} cannot "
            "forget or add them: give the mask of the earlier calls, or start with a new cache and all tokens"
        )
    for layer in kept:
        layer.token_mask = mask


def keeps_what_it_read(config, layers: list[Block]) -> tuple[str | None, bool]:
    """The setting by which a later mask of the past has no effect, or None; whether it can replace the last tokens."""
    if config.canon_width or config.ngram_orders:
        return reads_by_order(config, layers), False
    unmasked = [
        (layer.cache_can_crop, name)
        for name, layer in zip(config.attention_types, layers, strict=True)
        if layer.mask_type is None
    ]
    # False is before True: the strictest layer decides
    replaces, name = min(unmasked, default=(True, None))
    return name and f"attention_type={name!r}", replaces


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
