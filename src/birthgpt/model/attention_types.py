"""The registry: which class an attention type's name stands for."""

from difflib import get_close_matches

from .attention import Mixer
from .attention_softmax import SoftmaxAttention

ATTENTION_TYPES: dict[str, type[Mixer]] = {
    "softmax": SoftmaxAttention,
}


def register_attention_type(name: str, mixer_class: type[Mixer]) -> None:
    """Make `attention_type=name` build `mixer_class`, a subclass of `Mixer`."""
    if name in ATTENTION_TYPES:
        raise ValueError(f"attention_type {name!r} is registered already, for {ATTENTION_TYPES[name].__name__}")
    ATTENTION_TYPES[name] = mixer_class


def get_attention_type(name: str) -> type[Mixer]:
    """The class of an attention type; ValueError, with the nearest name, where there is none."""
    if name not in ATTENTION_TYPES:
        nearest = get_close_matches(name, ATTENTION_TYPES, n=1)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise ValueError(f"attention_type={name!r} does not exist: {hint}choose from {', '.join(ATTENTION_TYPES)}")
    return ATTENTION_TYPES[name]
