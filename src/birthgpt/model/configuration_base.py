"""The settings that every model has, independent of its attention types."""

from typing import Literal

from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

from .settings import setting


class BaseConfig(PreTrainedConfig):
    """The settings that all attention types share: sizes, positions, norms, MLP, dropout, initialisation.

    An attention type with its own settings adds them in a subclass, in its own file. `BirthGPTConfig` inherits from all
    of these subclasses.
    """

    vocab_size: int = setting(256, "number of tokens", min=1, on_command_line=False)
    max_position_embeddings: int = setting(
        128, "longest sequence in tokens; a hard limit where positions are learned", min=1, on_command_line=False
    )
    hidden_size: int = setting(256, "width d of the residual stream, a multiple of num_attention_heads", min=1)
    attention_type: str | list[str] = setting("softmax", "attention type, or one a layer")
    intermediate_size: int | None = setting(None, "width of the MLP; 4 · hidden_size if not given", min=1)
    num_hidden_layers: int = setting(4, "number of blocks", min=1, max=10_000)
    num_attention_heads: int = setting(8, "attention heads a layer, each hidden_size / num_attention_heads wide", min=1)
    position_embedding_type: Literal["learned", "rotary"] = setting(
        "learned", "learned: added to the tokens; rotary: Su et al., 2104.09864"
    )
    rope_parameters: dict | None = setting(
        None,
        "rotary positions: {rope_theta: base of the angles, 10000 by default}; rope_type (linear, llama3, proportional "
        "or yarn), its parameters and partial_rotary_factor as in transformers",
    )
    norm_type: Literal["layernorm", "rmsnorm"] = setting("layernorm", "norm before attention and MLP")
    layer_norm_eps: float = setting(1e-5, "added to the variance in every norm", above=0, max=1)
    hidden_act: str = setting("gelu", "activation of the MLP, such as gelu or relu2 (squared ReLU)", choices=ACT2FN)
    attention_bias: bool = setting(True, "biases in the linear maps of the attention")
    mlp_bias: bool = setting(True, "biases in the MLP")
    qk_norm: bool = setting(False, "normalise queries and keys, head by head, before their product (2010.04245)")
    hidden_dropout: float | int = setting(
        0.1, "dropout on the embeddings and on what each block adds to the residual stream", min=0, below=1
    )
    attention_dropout: float | int = setting(0.1, "dropout on the attention weights", min=0, below=1)
    initializer_range: float = setting(0.02, "standard deviation of the initial weights", min=0, max=100)
    zero_init_residual: bool = setting(False, "start the maps that write into the residual stream at zero")
    tie_word_embeddings: bool = setting(False, "share the weights of token embedding and output head")
    is_causal: bool = setting(
        True, "whether a token sees only the tokens before it; if not, both sides, as in an encoder",
        on_command_line=False,
    )  # fmt: skip
    add_cross_attention: bool = setting(
        False, "whether each block also attends to the states of an encoder", on_command_line=False
    )
    use_cache: bool = setting(True, "keep the past while generating", on_command_line=False)
    pad_token_id: int | None = setting(None, "the padding token", on_command_line=False)
    bos_token_id: int | None = setting(None, "the token that begins a text", on_command_line=False)
    eos_token_id: int | list[int] | None = setting(None, "the token that ends an answer", on_command_line=False)

    def __post_init__(self, **kwargs):
        if self.intermediate_size is None:
            self.intermediate_size = 4 * self.hidden_size
        super().__post_init__(**kwargs)

    @property
    def head_dim(self) -> int:
        """Width d_head of one attention head."""
        return self.hidden_size // self.num_attention_heads
