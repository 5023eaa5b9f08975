"""The registry: the class of each attention type, by its name in `attention_type`."""

from .attention import Attention, AttentionType
from .attention_abc import ABCAttention
from .attention_bigbird import BigBirdAttention
from .attention_gated_deltanet import GatedDeltaNet
from .attention_linformer import LinformerAttention
from .attention_perceiver import PerceiverBlock
from .attention_performer import PerformerAttention
from .attention_sliding_softmax import SlidingSoftmaxAttention
from .attention_softmax import SoftmaxAttention
from .attention_synthesizer import SynthesizerAttention
from .block import BirthGPTBlock, Block
from .canon import CanonConfig
from .configuration_base import BaseConfig
from .settings import unknown_choice

ATTENTION_TYPES: dict[str, type[Attention] | type[Block]] = {
    "softmax": SoftmaxAttention,
    "sliding_softmax": SlidingSoftmaxAttention,
    "gated_deltanet": GatedDeltaNet,
    "linformer": LinformerAttention,
    "abc": ABCAttention,
    "synthesizer": SynthesizerAttention,
    "perceiver": PerceiverBlock,
    "performer": PerformerAttention,
    "bigbird": BigBirdAttention,
}


def register_attention_type(name: str, attention_class: type[Attention] | type[Block]) -> None:
    """Let `attention_type=name` build this class, for as long as the Python process runs.

    Settings of its own are keywords of `BirthGPTConfig` without a declaration: the class reads them with a default.
    """
    if name in ATTENTION_TYPES:
        raise ValueError(f"attention_type {name!r} is registered already, for {ATTENTION_TYPES[name].__name__}")
    ATTENTION_TYPES[name] = attention_class


def get_attention_type(name: str) -> type[Attention] | type[Block]:
    """The class of an attention type; ValueError, with the nearest name, where there is none."""
    if name not in ATTENTION_TYPES:
        raise unknown_choice("attention_type", name, ATTENTION_TYPES)
    return ATTENTION_TYPES[name]


def config_classes() -> list[type[BaseConfig]]:
    """The dataclasses that declare the settings of the attention types, each once."""
    types: list[type[AttentionType]] = list(ATTENTION_TYPES.values())
    return [cls for cls in dict.fromkeys(each.config_class for each in types) if cls is not BaseConfig]


def build_block(config: CanonConfig, attention_type: str, layer_idx: int) -> Block:
    """The block of one layer: that of the attention type, or the ordinary block around its attention."""
    attention_class = get_attention_type(attention_type)
    if issubclass(attention_class, Block):
        return attention_class(config, layer_idx)
    return BirthGPTBlock(config, layer_idx, attention_class)
