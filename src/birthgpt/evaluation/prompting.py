"""Prompts as inputs of a model: a decoder continues them; of an encoder–decoder, the encoder reads what is before ⁇."""

from collections.abc import Sequence
from typing import Literal

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase


def prompt_inputs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[list[int]],
    *,
    padding_side: Literal["left", "right"] = "left",
) -> dict[str, torch.Tensor]:
    """The arguments of a model for prompts that contain ⁇, padded, on the device of the model.

    Args:
        rows: the tokens of each prompt.
        padding_side: the side of the padding in what the decoder continues.

    Returns:
        `input_ids` and `attention_mask`, (batch, length); for an encoder–decoder, those of the encoder, and
        `decoder_input_ids` and `decoder_attention_mask`, which begin at the first ⁇.

    Raises:
        ValueError: the encoder would have nothing to read, or the decoder would have no ⁇ to begin with.
    """
    if not model.config.is_encoder_decoder:
        padded = tokenizer.pad({"input_ids": list(rows)}, padding_side=padding_side, return_tensors="pt")
        return dict(padded.to(model.device))
    mask, starts = tokenizer.mask_token_id, []
    for row in rows:
        if mask not in row[1:]:
            raise ValueError(f"{tokenizer.decode(row)!r}: an encoder–decoder needs a text and then ⁇")
        starts.append(row.index(mask))
    pairs = list(zip(rows, starts, strict=True))
    encoder = tokenizer.pad({"input_ids": [row[:start] for row, start in pairs]}, return_tensors="pt")
    decoder = tokenizer.pad(
        {"input_ids": [row[start:] for row, start in pairs]}, padding_side=padding_side, return_tensors="pt"
    )
    inputs = {**encoder, **{f"decoder_{name}": values for name, values in decoder.items()}}
    return {name: values.to(model.device) for name, values in inputs.items()}


def decoder_input(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The tokens of `prompt_inputs` that the decoder continues, (batch, length)."""
    return inputs.get("decoder_input_ids", inputs["input_ids"])
