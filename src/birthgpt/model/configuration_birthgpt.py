"""The configuration of a birthgpt model."""

from difflib import get_close_matches

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

POSITION_EMBEDDING_TYPES = ("learned", "rotary")
NORM_TYPES = ("layernorm", "rmsnorm")
SYNTHESIZER_KINDS = ("dense", "random", "fixed_random", "factorized_dense", "factorized_random")
SYNTHESIZER_MIXTURES = ("none", "plus", "alpha")
PERCEIVER_KINDS = ("stretches", "assignment")
LINFORMER_KINDS = ("blockwise", "abc")
LINFORMER_WEIGHTS = ("content", "position")
BIGBIRD_IMPLEMENTATIONS = ("gathered", "dense", "flex")
PERFORMER_KINDS = ("positive", "trigonometric", "relu")
STATE_LAYER = "birthgpt_state"
"""What `layer_types` calls a layer whose cache is a `StateCacheLayer`."""

CACHE_OF_TYPE = {"softmax": "full_attention", "sliding_softmax": "sliding_attention"}
"""The types that need nothing but a cache of transformers."""

SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "sliding_window",
    "synthesizer_rank",
    "perceiver_bottleneck",
    "linformer_block",
    "linformer_summaries",
    "linformer_window",
    "bigbird_block",
    "bigbird_window",
    "performer_features",
    "performer_chunk",
    "deltanet_chunk",
    "ngram_vocab_size",
)
COUNTS = ("canon_width", "bigbird_global", "bigbird_random", "performer_redraw_steps")


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
        ngram_orders (`list[int]`, *optional*): lengths of the n-grams that have embeddings of their own, such as
            `[2, 3]` (2501.16975).
        ngram_vocab_size (`int`): rows of each order's table; n-grams of the same hash share a row.
        canon_width (`int`): taps of the causal convolution before attention and MLP (2512.17351); 0 for none.
        sliding_window (`int`, *optional*): tokens that `sliding_softmax` sees, itself included.
        synthesizer_kind (`str`): `dense`, `random`, `fixed_random`, `factorized_dense` or `factorized_random`.
        synthesizer_rank (`int`): k of `factorized_random`; for `factorized_dense`, the shorter factor's length.
        synthesizer_mixture (`str`): `none`; `plus` adds the scores of softmax, `alpha` weighs the two.
        perceiver_kind (`str`): `stretches` (every token sees all of its past) or `assignment` (it does not).
        perceiver_bottleneck (`int`): number of latents.
        linformer_kind (`str`): `blockwise` or `abc`.
        linformer_block (`int`): tokens that are summarised together (blockwise).
        linformer_summaries (`int`): summaries a block (blockwise) or slots in all (abc), a head.
        linformer_window (`int`): tokens seen exactly, a multiple of `linformer_block` (blockwise).
        linformer_weights (`str`): what decides a token's slot (abc): its `content` or its `position`.
        bigbird_block (`int`): tokens a block.
        bigbird_global, bigbird_window, bigbird_random (`int`): blocks at the start that everyone sees, blocks up
            to the own one, and older blocks drawn at random.
        bigbird_seed (`int`): of the random blocks.
        bigbird_implementation (`str`): `gathered` (sparse), `dense` (the same by a mask) or `flex` (CUDA).
        performer_kind (`str`): feature map: `positive`, `trigonometric` or `relu`.
        performer_features (`int`): number m of random features a head.
        performer_orthogonal (`bool`): whether the rows of the projection are orthogonal.
        performer_redraw_steps (`int`): training draws new features after so many updates; 0 for never.
        performer_chunk (`int`): tokens that are handled together.
        deltanet_chunk (`int`): tokens that are handled together by `gated_deltanet`.
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
    ngram_orders: list[int] | None = None
    ngram_vocab_size: int = 32768
    canon_width: int = 0
    sliding_window: int | None = None
    synthesizer_kind: str = "dense"
    synthesizer_rank: int = 8
    synthesizer_mixture: str = "none"
    perceiver_kind: str = "stretches"
    perceiver_bottleneck: int = 32
    linformer_kind: str = "blockwise"
    linformer_block: int = 16
    linformer_summaries: int = 4
    linformer_window: int = 32
    linformer_weights: str = "content"
    bigbird_block: int = 16
    bigbird_global: int = 1
    bigbird_window: int = 2
    bigbird_random: int = 1
    bigbird_seed: int = 0
    bigbird_implementation: str = "gathered"
    performer_kind: str = "positive"
    performer_features: int = 64
    performer_orthogonal: bool = True
    performer_redraw_steps: int = 0
    performer_chunk: int = 64
    deltanet_chunk: int = 32
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
        self.ngram_orders = self.ngram_orders or []
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

    @property
    def layer_types(self) -> list[str]:
        """The cache of each layer, by the names of transformers: its own for softmax, states for the others."""
        if self.canon_width or self.ngram_orders:
            return [STATE_LAYER] * self.num_hidden_layers
        return [CACHE_OF_TYPE.get(name, STATE_LAYER) for name in self.attention_types]

    @property
    def special_ids(self) -> list[int]:
        """The tokens that are no text: padding, begin and end."""
        ends = self.eos_token_id if isinstance(self.eos_token_id, list) else [self.eos_token_id]
        return [token for token in (self.pad_token_id, self.bos_token_id, *ends) if token is not None]

    def validate_layer_type(self):
        """Nothing to check: `layer_types` is derived, and knows caches of this package's own."""

    def validate_positive_sizes(self):
        """Every size is at least one, or at least zero where none can be had."""
        for name in SIZES:
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: it must be at least 1")
        for name in COUNTS:
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)}: it must be at least 0")

    def validate_ngram_orders(self):
        """An n-gram has at least two tokens; each order has one table."""
        orders = self.ngram_orders or []
        if any(order < 2 for order in orders) or len(set(orders)) < len(orders):
            raise ValueError(f"ngram_orders={orders}: give different lengths of at least 2, such as [2, 3]")

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
        _check_choice("synthesizer_kind", self.synthesizer_kind, SYNTHESIZER_KINDS)
        _check_choice("synthesizer_mixture", self.synthesizer_mixture, SYNTHESIZER_MIXTURES)
        _check_choice("perceiver_kind", self.perceiver_kind, PERCEIVER_KINDS)
        _check_choice("linformer_weights", self.linformer_weights, LINFORMER_WEIGHTS)
        _check_choice("bigbird_implementation", self.bigbird_implementation, BIGBIRD_IMPLEMENTATIONS)
        _check_choice("performer_kind", self.performer_kind, PERFORMER_KINDS)
        if self.linformer_kind == "original":
            raise ValueError(
                "linformer_kind='original' mixes every token into every summary, later ones included, and no mask "
                "undoes that: a language model would read the answer. Choose blockwise or abc"
            )
        _check_choice("linformer_kind", self.linformer_kind, LINFORMER_KINDS)
        rope_type = (self.rope_parameters or {}).get("rope_type", "default")
        _check_choice("rope_parameters['rope_type']", rope_type, ("default",))

    def validate_attention_types(self):
        """A list of attention types names one a layer."""
        if len(self.attention_types) != self.num_hidden_layers:
            raise ValueError(
                f"attention_type lists {len(self.attention_types)} types for "
                f"num_hidden_layers={self.num_hidden_layers}: give one name, or one a layer"
            )

    def validate_attention_settings(self):
        """What one attention type asks of its own settings."""
        if "sliding_softmax" in self.attention_types and self.sliding_window is None:
            raise ValueError("attention_type='sliding_softmax' needs sliding_window, the number of tokens it sees")
        if "perceiver" in self.attention_types and self.num_hidden_layers < 2:
            raise ValueError("attention_type='perceiver' needs num_hidden_layers of at least 2: one down and one up")
        if "perceiver" in self.attention_types and not isinstance(self.attention_type, str):
            raise ValueError("attention_type='perceiver' spans all layers: it cannot stand in a list with one a layer")
        if self.linformer_window % self.linformer_block:
            raise ValueError(
                f"linformer_window={self.linformer_window} is not a multiple of linformer_block={self.linformer_block}"
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
