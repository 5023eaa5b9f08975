"""The configuration of a birthgpt model: the settings of all attention types, of Canon and of n-grams, as one class."""

from functools import cache
from logging import getLogger
from typing import Any, ClassVar

import torch

from .attention_types import config_classes, get_attention_type
from .cache import STATE_LAYER
from .canon import CanonConfig
from .configuration_base import BaseConfig
from .layers import ROPE_TYPES, rotated_features
from .ngrams import NgramConfig
from .settings import checked, settings_of

logger = getLogger(__name__)


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
    installed_code: ClassVar[str | None] = None
    """The version of this code where it is an installed package, which takes the place of the code of an export."""

    def __post_init__(self, **kwargs):
        _check_dtype(kwargs.get("torch_dtype") if self.dtype is None else self.dtype)
        _check_overrides(kwargs.get("per_layer_config") or {})
        super().__post_init__(**kwargs)
        default = {"rope_type": "default", "rope_theta": self.default_theta}
        if self.position_embedding_type == "learned" and self.rope_parameters == default:
            # transformers fills them in for every model that may have rotary positions
            self.rope_parameters = None
        self.base_model_tp_plan = _tensor_parallel_plan(self)  # type: ignore[misc]

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs) -> Any:
        """The configuration of a checkpoint; raises ValueError for version 0.1, which must be converted first."""
        if "linformer_summaries" in config_dict:
            raise ValueError("this checkpoint was written by birthgpt 0.1: convert it by `birthgpt convert FOLDER`")
        version = config_dict.get("code_version")
        if None not in (version, cls.installed_code) and version != cls.installed_code:
            _warn_other_code(str(version), cls.installed_code)
        _complete_rope_parameters(kwargs, config_dict)
        return super().from_dict(config_dict, **kwargs)

    def check_settings(self) -> None:
        """Raise ValueError as a construction does; the model calls it before it is built.

        Settings may have changed since their check: `from_pretrained` sets its keywords one by one afterwards, and a
        list or a dictionary can change in place.
        """
        for name in ("intermediate_size", "ngram_special_token_ids"):
            if getattr(self, name) is None:
                raise ValueError(f"{name}=None: a default is filled in only at construction: give a value")
        if self.is_heterogeneous:
            _check_overrides(self._heterogeneity_spec.per_layer_overrides)
        for check in (self.validate_head_width, self.validate_attention_types, self.validate_ngram_orders):
            check()
        self.validate_rope()

    def to_dict(self) -> dict[str, Any]:
        """The settings, without `auto_map` and `code_version` if saving does not copy the code that they name."""
        values = super().to_dict()
        # transformers copies the code of classes that were loaded from a checkpoint, not of an installed package
        if not self.is_remote_code():
            values.pop("auto_map", None)
            values.pop("code_version", None)
        return values

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
        if "sliding_window" in (self.per_layer_attributes or ()) or self.sliding_window == 1:
            # older versions of transformers have one window for all layers; with a window of 1, it keeps all keys
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

    def validate_rope(self):
        """Check `rope_parameters`, which only rotary positions have."""
        if self.position_embedding_type == "learned" and self.rope_parameters:
            raise ValueError(
                f"rope_parameters={self.rope_parameters} have no effect on learned positions: set "
                "position_embedding_type to rotary"
            )
        if self.position_embedding_type == "rotary":
            _check_rope(self)
            self.standardize_rope_params()
            try:
                super().validate_rope()
            except KeyError as error:
                # a required parameter is missing
                raise ValueError(error.args[0]) from None

    def validate_attention_types(self):
        """Check that each layer has one attention type, and that its settings can be combined."""
        if len(self.attention_types) != self.num_hidden_layers:
            raise ValueError(
                f"attention_type lists {len(self.attention_types)} types for "
                f"num_hidden_layers={self.num_hidden_layers}: give one name, or one for each layer"
            )
        for name, layer_config in zip(self.attention_types, self.per_layer_config, strict=True):
            assert isinstance(layer_config, BaseConfig), "it is a copy of this configuration"
            attention_class = get_attention_type(name)
            if not (self.is_causal or attention_class.supports_bidirectional):
                raise ValueError(f"attention_type={name!r} has no bidirectional form: leave is_causal at True")
            attention_class.check_config(layer_config)


@cache
def _warn_other_code(version: str, installed: str) -> None:
    """Warn, once for each version, that installed code takes the place of the code of an export."""
    logger.warning(
        "this checkpoint comes with the code of birthgpt %s, and the installed %s takes its place: if its answers "
        "differ, install that version, or pass trust_remote_code=True in a program that does not import birthgpt",
        version,
        installed,
    )


def _complete_rope_parameters(given: dict[str, Any], saved: dict[str, Any]) -> None:
    """Complete the rotary parameters among keywords for a checkpoint by those that it was trained with, in place."""
    trained = saved.get("rope_parameters") or {}
    names = [name for name in ("rope_parameters", "rope_scaling") if given.get(name)]
    parameters = dict(given.pop(names[0])) if names else dict(trained)
    single = {name: given.pop(name) for name in ("rope_theta", "partial_rotary_factor") if name in given}
    if not names and not single:
        return
    parameters |= single
    parameters.setdefault("rope_theta", trained.get("rope_theta", BirthGPTConfig.default_theta))
    if "original_max_position_embeddings" in ROPE_TYPES.get(_rope_type(parameters), ()):
        parameters.setdefault("original_max_position_embeddings", saved.get("max_position_embeddings"))
    given["rope_parameters"] = parameters


def _rope_type(parameters: dict[str, Any]) -> str:
    return parameters.get("rope_type", parameters.get("type", "default"))


def _check_rope(config: BirthGPTConfig) -> None:
    """Raise ValueError for rotary positions that the model does not compute, or that no layer applies."""
    parameters = config.rope_parameters or {}
    rope_type = _rope_type(parameters)
    if rope_type not in ROPE_TYPES:
        raise ValueError(
            f"rope_parameters: rope_type={rope_type!r} is not supported: choose from {', '.join(ROPE_TYPES)}, whose "
            "angles do not depend on the length of the sequence"
        )
    common = {"rope_type", "type", "rope_theta", "partial_rotary_factor"}
    if unknown := sorted(parameters.keys() - common - ROPE_TYPES[rope_type]):
        raise ValueError(f"rope_parameters: rope_type={rope_type!r} does not have {', '.join(unknown)}")
    if "rope_theta" not in parameters:
        raise ValueError(f"rope_parameters={parameters}: rope_theta is missing, the base of the angles")
    for name in parameters.keys() - {"rope_type", "type", "truncate"}:
        value = parameters[name]
        if isinstance(value, bool) or not isinstance(value, float | int) or not 0 < value < float("inf"):
            raise ValueError(f"rope_parameters: {name}={value!r} must be a positive number")
    share, rotated = parameters.get("partial_rotary_factor", 1.0), rotated_features(config)
    if share > 1 or rotated < 2 or rotated % 2:
        raise ValueError(
            f"rope_parameters: partial_rotary_factor={share} rotates {rotated} of {config.head_dim} features of a "
            "head: choose a share that gives an even number, at least 2"
        )
    if (rope_type, share) != ("default", 1.0) and not _some_layer_rotates(config):
        raise ValueError(
            f"rope_parameters={parameters} have no effect: attention_type={config.attention_type!r} does not rotate "
            "queries and keys"
        )


def _some_layer_rotates(config: BirthGPTConfig) -> bool:
    layer_configs: Any = config.per_layer_config
    layers = zip(config.attention_types, layer_configs, strict=False)
    return any(get_attention_type(name).applies_rotary(layer_config) for name, layer_config in layers)


def _tensor_parallel_plan(config: BirthGPTConfig) -> dict[str, str]:
    """How transformers shards the model over processes: embedding, MLPs, and the heads if every layer permits it."""
    plan = {
        "embed_tokens": "embedding_rowwise",
        "layers.*.mlp.up_proj": "colwise",
        "layers.*.mlp.down_proj": "rowwise",
    }
    of_layers = [get_attention_type(name).tensor_parallel_plan for name in config.attention_types]
    if of_layers and all(plan_of_type and plan_of_type == of_layers[0] for plan_of_type in of_layers):
        plan |= {f"layers.*.attention.{name}": style for name, style in of_layers[0].items()}
        if config.qk_norm:
            # a process sees the gradients of its own heads only
            norms = ("q_norm", "k_norm")
            plan |= {f"layers.*.attention.projections.{name}": "replicated_with_grad_allreduce" for name in norms}
    return plan


def _check_dtype(dtype: object) -> None:
    """Raise ValueError unless the weights have a floating type; it may be given by its name."""
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if dtype is not None and not (isinstance(found, torch.dtype) and found.is_floating_point):
        raise ValueError(f"dtype={dtype!r}: expected a floating type of torch, such as float32")


def _check_overrides(by_layer: Any) -> None:
    """Raise ValueError unless these are settings of attention types by layer, which only their own layer reads."""
    common = {entry.name for entry in settings_of(BaseConfig)}
    allowed = {entry.name for cls in config_classes() for entry in settings_of(cls)} - common
    if not isinstance(by_layer, dict):
        raise ValueError(f"per_layer_config={by_layer!r}: give settings by layer, such as {{2: {{sliding_window: 8}}}}")
    for layer, overrides in by_layer.items():
        if not str(layer).isdecimal() or not isinstance(overrides, dict):
            raise ValueError(
                f"per_layer_config: {layer!r}: {overrides!r} is not a layer with its settings, such as "
                "2: {sliding_window: 8}"
            )
        for name in overrides:
            if name not in allowed:
                raise ValueError(
                    f"per_layer_config: {name} is not a setting of an attention type: set it for all layers"
                )


__all__ = ["BirthGPTConfig"]
