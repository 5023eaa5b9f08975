"""Sliding-window softmax attention: softmax over the newest tokens only (Beltagy et al., 2004.05150).

o_t = Σ_{s ∈ S(t)} softmax_{s ∈ S(t)}(q_tᵀ k_s / √d_head) v_s

S(t) contains the tokens t − w < s ≤ t; in the bidirectional form, as published, t − w < s < t + w.
"""

import torch

from .attention import register_attention_type
from .attention_softmax import SoftmaxAttention
from .configuration_base import BaseConfig
from .settings import setting


class SlidingSoftmaxConfig(BaseConfig):
    """The settings of `sliding_softmax`."""

    sliding_window: int | None = setting(
        None, "tokens that sliding_softmax sees, the own token included; in an encoder, on each side", min=1
    )


@register_attention_type("sliding_softmax")
class SlidingSoftmaxAttention(SoftmaxAttention):
    """Softmax attention to the last `sliding_window` tokens, including the token itself, or to as many on each side."""

    config_class = SlidingSoftmaxConfig
    mask_type = "sliding"
    cache_type = "sliding_attention"

    layer_config: SlidingSoftmaxConfig

    @classmethod
    def check_config(cls, config: BaseConfig) -> None:
        """Raise ValueError without a window."""
        assert isinstance(config, SlidingSoftmaxConfig)
        if config.sliding_window is None:
            raise ValueError("attention_type='sliding_softmax' needs sliding_window: set the number of visible tokens")

    def forward(self, hidden_states: torch.Tensor, **kwargs) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Softmax attention within the window. Flash attention receives the window itself, because it takes no mask."""
        return super().forward(hidden_states, sliding_window=self.layer_config.sliding_window, **kwargs)
