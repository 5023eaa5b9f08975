"""The registry: importing the file of an attention type registers it, so a new type needs one line here."""

from .attention import ATTENTION_TYPES, Attention, AttentionType
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


def get_attention_type(name: str) -> type[AttentionType]:
    """The class of an attention type; raises ValueError with the most similar name for an unknown name."""
    if name not in ATTENTION_TYPES:
        raise unknown_choice("attention_type", name, ATTENTION_TYPES)
    return ATTENTION_TYPES[name]


def config_classes() -> list[type[BaseConfig]]:
    """The dataclasses that declare the settings of the attention types, each once."""
    return [
        cls for cls in dict.fromkeys(kind.config_class for kind in ATTENTION_TYPES.values()) if cls is not BaseConfig
    ]


def build_block(config: CanonConfig, attention_type: str, layer_idx: int) -> Block:
    """The block of one layer: the attention type itself if it is a block, else the standard block around it."""
    attention_class = get_attention_type(attention_type)
    if issubclass(attention_class, Block):
        return attention_class(config, layer_idx)
    assert issubclass(attention_class, Attention)
    return BirthGPTBlock(config, layer_idx, attention_class)
