"""The configuration of a birthgpt model: the settings of all attention types, of Canon and of n-grams, as one class."""

from typing import Any

import torch

from .attention_types import config_classes, get_attention_type
from .cache import STATE_LAYER
from .canon import CanonConfig
from .configuration_base import BaseConfig
from .ngrams import NgramConfig
from .settings import checked, settings_of


@checked
class BirthGPTConfig(*config_classes(), CanonConfig, NgramConfig, BaseConfig):  # type: ignore[misc]
    r"""Configuration of a pre-norm GPT with switchable attention.

    The defaults are the model of the CS224N assignment: 4 layers, 8 heads, width 256, learned positions. A setting is
    declared, with its help text, in `configuration_base.py` or in the file of the attention type that uses it.
    `docs/settings.md` lists all settings.

    Layers of one type may differ: `per_layer_config={2: {"sliding_window": 8}}` sets the value of the third layer.

    Raises:
        ValueError: a value with a wrong type, out of its bounds or unknown; a width that is not a multiple of the
            heads; a list that has not one entry for each layer; settings that an attention type cannot combine.
    """

    model_type = "birthgpt"
    keys_to_ignore_at_inference = ["past_key_values"]

    def __post_init__(self, **kwargs):
        _check_dtype(kwargs.get("torch_dtype") if self.dtype is None else self.dtype)
        for overrides in (kwargs.get("per_layer_config") or {}).values():
            _check_overrides(overrides)
        super().__post_init__(**kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs) -> Any:
        """The configuration of a checkpoint; raises ValueError for version 0.1, which must be converted first."""
        if "linformer_summaries" in config_dict:
            raise ValueError("this checkpoint was written by birthgpt 0.1: convert it by `birthgpt convert FOLDER`")
        return super().from_dict(config_dict, **kwargs)

    @property
    def attention_types(self) -> list[str]:
        """The attention type of each layer."""
        if isinstance(self.attention_type, str):
            return [self.attention_type] * self.num_hidden_layers
        return self.attention_type

    @property
    def layer_types(self) -> list[str]:
        """The cache of each layer, by its name in transformers."""
        if self.canon_width or self.ngram_orders:
            return [STATE_LAYER] * self.num_hidden_layers
        caches = [get_attention_type(name).cache_type for name in self.attention_types]
        if "sliding_window" in (self.per_layer_attributes or ()):
            # older versions of transformers have one window for all layers
            return [STATE_LAYER if cache == "sliding_attention" else cache for cache in caches]
        return caches

    def validate_layer_type(self):
        """Check nothing: `layer_types` is derived, and transformers does not know the caches of this package."""

    def validate_head_width(self):
        """Check that the heads divide the width; rotary positions rotate pairs of features."""
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} is not a multiple of num_attention_heads={self.num_attention_heads}"
            )
        if self.position_embedding_type == "rotary" and self.head_dim % 2:
            raise ValueError(
                f"rotary positions need heads of even width, not hidden_size={self.hidden_size} / "
                f"num_attention_heads={self.num_attention_heads} = {self.head_dim}"
            )

    def validate_rope_type(self):
        """Check that the angles are the default ones: `RotaryEmbedding` computes no others."""
        rope_type = (self.rope_parameters or {}).get("rope_type", "default")
        if rope_type != "default":
            raise ValueError(f"rope_parameters: rope_type={rope_type!r} is not supported: choose default")

    def validate_attention_types(self):
        """Check that each layer has one attention type, and that its settings can be combined."""
        if len(self.attention_types) != self.num_hidden_layers:
            raise ValueError(
                f"attention_type lists {len(self.attention_types)} types for "
                f"num_hidden_layers={self.num_hidden_layers}: give one name, or one for each layer"
            )
        for name, layer_config in zip(self.attention_types, self.per_layer_config, strict=True):
            assert isinstance(layer_config, BaseConfig), "it is a copy of this configuration"
            get_attention_type(name).check_config(layer_config)


def _check_dtype(dtype: object) -> None:
    """Raise ValueError unless the weights have a floating type; it may be given by its name."""
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if dtype is not None and not (isinstance(found, torch.dtype) and found.is_floating_point):
        raise ValueError(f"dtype={dtype!r}: expected a floating type of torch, such as float32")


def _check_overrides(overrides: dict) -> None:
    """Raise ValueError unless all overrides are settings of attention types, which only their own layer reads."""
    common = {entry.name for entry in settings_of(BaseConfig)}
    allowed = {entry.name for cls in config_classes() for entry in settings_of(cls)} - common
    for name in overrides:
        if name not in allowed:
            raise ValueError(f"per_layer_config: {name} is not a setting of an attention type: set it for all layers")


__all__ = ["BirthGPTConfig"]
