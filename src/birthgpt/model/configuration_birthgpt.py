"""The configuration of a birthgpt model."""

from difflib import get_close_matches

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

POSITION_EMBEDDING_TYPES = ("learned", "rotary")
NORM_TYPES = ("layernorm", "rmsnorm")


@strict
class BirthGPTConfig(PreTrainedConfig):
    r"""Configuration of a pre-norm GPT with switchable attention.

    The defaults are the model of the CS224N assignment: 4 layers, 8 heads, width 256, learned positions.

    Args:
        vocab_size (`int`): number of tokens.
        hidden_size (`int`): width d of the residual stream; a multiple of `num_attention_heads`.
        intermediate_size (`int`, *optional*): width of the MLP; 4 · `hidden_size` if not given.
        num_hidden_layers (`int`): number of blocks.
        num_attention_heads (`int`): heads a layer, each `hidden_size // num_attention_heads` wide.
        max_position_embeddings (`int`): block size in tokens; a hard limit where positions are learned.
        position_embedding_type (`str`): `learned` (added to the tokens) or `rotary` (Su et al., 2104.09864).
        rope_parameters (`dict`, *optional*): `rope_theta` of the rotary positions.
        norm_type (`str`): `layernorm` or `rmsnorm`.
        layer_norm_eps (`float`): added to the variance in every norm.
        hidden_act (`str`): an activation of transformers, such as `gelu` or `relu2` (squared ReLU).
        attention_bias, mlp_bias (`bool`): whether the linear maps of attention and MLP have biases.
        qk_norm (`bool`): normalise queries and keys, head by head, before their product (2010.04245).
        hidden_dropout (`float`): dropout on the embeddings and on what each block adds to the stream.
        attention_dropout (`float`): dropout on the attention weights.
        attention_type (`str` or `list[str]`): a registered attention type, or one a layer.
        initializer_range (`float`): standard deviation of the initial weights.
        zero_init_residual (`bool`): start the maps that write into the residual stream at zero.
        tie_word_embeddings (`bool`): share the weights of token embedding and output head.
        use_cache (`bool`): whether generation keeps keys and values.

    Raises:
        ValueError: a width that the heads do not divide, an unknown choice, a list of another length than
            the layers. (`StrictDataclassError` of huggingface_hub for a value of the wrong type.)
    """

    model_type = "birthgpt"
    keys_to_ignore_at_inference = ["past_key_values"]

    vocab_size: int = 256
    hidden_size: int = 256
    intermediate_size: int | None = None
    num_hidden_layers: int = 4
    num_attention_heads: int = 8
    max_position_embeddings: int = 128
    position_embedding_type: str = "learned"
    rope_parameters: dict | None = None
    norm_type: str = "layernorm"
    layer_norm_eps: float = 1e-5
    hidden_act: str = "gelu"
    attention_bias: bool = True
    mlp_bias: bool = True
    qk_norm: bool = False
    hidden_dropout: float | int = 0.1
    attention_dropout: float | int = 0.1
    attention_type: str | list[str] = "softmax"
    initializer_range: float = 0.02
    zero_init_residual: bool = False
    tie_word_embeddings: bool = False
    use_cache: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    def __post_init__(self, **kwargs):
        if self.intermediate_size is None:
            self.intermediate_size = 4 * self.hidden_size
        super().__post_init__(**kwargs)

    @property
    def head_dim(self) -> int:
        """Width d_head of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def attention_types(self) -> list[str]:
        """The attention type of each layer."""
        if isinstance(self.attention_type, str):
            return [self.attention_type] * self.num_hidden_layers
        return self.attention_type

    def validate_positive_sizes(self):
        """Every size is at least one."""
        sizes = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        for name in (*sizes, "max_position_embeddings"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: it must be at least 1")

    def validate_head_width(self):
        """The heads share the width evenly; rotary positions turn pairs of features."""
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} is not a multiple of num_attention_heads={self.num_attention_heads}"
            )
        if self.position_embedding_type == "rotary" and self.head_dim % 2:
            raise ValueError(
                f"rotary positions need heads of even width, not hidden_size={self.hidden_size} / "
                f"num_attention_heads={self.num_attention_heads} = {self.head_dim}"
            )

    def validate_choices(self):
        """Each named choice is one that exists."""
        _check_choice("position_embedding_type", self.position_embedding_type, POSITION_EMBEDDING_TYPES)
        _check_choice("norm_type", self.norm_type, NORM_TYPES)
        _check_choice("hidden_act", self.hidden_act, tuple(ACT2FN))
        rope_type = (self.rope_parameters or {}).get("rope_type", "default")
        _check_choice("rope_parameters['rope_type']", rope_type, ("default",))

    def validate_attention_types(self):
        """A list of attention types names one a layer."""
        if len(self.attention_types) != self.num_hidden_layers:
            raise ValueError(
                f"attention_type lists {len(self.attention_types)} types for "
                f"num_hidden_layers={self.num_hidden_layers}: give one name, or one a layer"
            )

    def validate_probabilities(self):
        """Dropout rates lie in [0, 1)."""
        for name in ("hidden_dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: a dropout rate lies in [0, 1)")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        nearest = get_close_matches(value, choices, n=1)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise ValueError(f"{name}={value!r} does not exist: {hint}choose from {', '.join(choices)}")


__all__ = ["BirthGPTConfig"]
