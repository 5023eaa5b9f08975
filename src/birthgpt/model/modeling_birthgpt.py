"""The model: embeddings, blocks, `BirthGPTModel` and `BirthGPTForCausalLM`, in reading order."""

import torch
from torch import nn
from transformers import initialization as init
from transformers.cache_utils import Cache, DynamicCache
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import PreTrainedModel
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults

from .attention_types import build_block, get_attention_type
from .cache import count_tokens
from .configuration_birthgpt import STATE_LAYER, BirthGPTConfig
from .layers import OutputProjection, RotaryEmbedding, build_norm, keep_rows, rows_to_keep
from .masks import build_mask
from .ngrams import NgramEmbedding


class LearnedPositions(nn.Embedding):
    """One trained vector a position, zero at first as in the assignment's model."""


class BirthGPTPreTrainedModel(PreTrainedModel):
    """Initialisation, loading and saving; what the model supports of transformers."""

    config: BirthGPTConfig
    config_class = BirthGPTConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _skip_keys_device_placement = ["past_key_values"]
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, LearnedPositions):
            init.zeros_(module.weight)
        if hasattr(module, "initialize_parameters"):
            module.initialize_parameters()
        # by class: in custom models, transformers passes over modules that hold others but no parameter
        if self.config.zero_init_residual and isinstance(module, OutputProjection):
            init.zeros_(module.weight)


class BirthGPTModel(BirthGPTPreTrainedModel):
    """The stack of blocks, from token ids to normalised hidden states."""

    def __init__(self, config: BirthGPTConfig):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.embed_ngrams = NgramEmbedding(config) if config.ngram_orders else None
        if config.position_embedding_type == "learned":
            self.embed_positions = LearnedPositions(config.max_position_embeddings, config.hidden_size)
        else:
            self.rotary_embedding = RotaryEmbedding(config)
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.layers = nn.ModuleList(build_block(config, i) for i in range(config.num_hidden_layers))
        self.norm = build_norm(config, config.hidden_size)
        self.gradient_checkpointing = False
        # FSDP looks for each of the named classes in the model, so that only those that are there are named
        self._no_split_modules = {type(layer).__name__ for layer in self.layers}
        self.post_init()

    @can_return_tuple
    @merge_with_config_defaults
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        branch_ids: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        kept_rows: torch.LongTensor | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPast:
        """Run the blocks.

        Args:
            input_ids: (batch, length); or `inputs_embeds`, (batch, length, hidden_size).
            attention_mask: (batch, seen + length), 0 for padding on either side; or a 4-D mask of your own; or
                one a layer type, as `generate` makes them for a static cache.
            position_ids: (batch, length); counted from `attention_mask` where not given.
            past_key_values: the cache to continue from.
            branch_ids: (batch, length): 0 = stem, −1 = padding, k > 0 = the k-th branch. A branch sees the
                stem and itself only; `position_ids` restart after the stem.
            kept_rows: the tokens whose last state is wanted, as of `rows_to_keep`; None for all.

        Raises:
            ValueError: neither or both of `input_ids` and `inputs_embeds`, or the second with n-grams; a sequence
                longer than learned positions reach; branches with a cache, with flash attention, without
                `position_ids` or with an attention type that cannot take them; a boolean 4-D mask that would be
                added to scores; a 4-D mask, or positions that restart without branches, for a model that reads its
                past in another way.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        if input_ids is None and self.embed_ngrams is not None:
            raise ValueError("ngram_orders need the tokens themselves: give input_ids instead of inputs_embeds")
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)
        if use_cache and past_key_values is None and branch_ids is None:
            past_key_values = DynamicCache(config=self.config)
        self._check_masks(attention_mask, branch_ids, position_ids, past_key_values)
        token_mask = tokens_of_mask(attention_mask, inputs_embeds.shape[1])
        if self.embed_ngrams is not None:
            inputs_embeds = inputs_embeds + self.embed_ngrams(
                input_ids, token_mask=token_mask, branch_ids=branch_ids, past_key_values=past_key_values
            )
        seen = past_key_values.get_seq_length() if past_key_values is not None else 0
        given_position_ids = position_ids
        if position_ids is None:
            position_ids = positions_from_mask(attention_mask, inputs_embeds, seen)

        if self.config.position_embedding_type == "learned":
            self._check_length(seen + inputs_embeds.shape[1] if branch_ids is None else int(position_ids.max()) + 1)
        hidden_states, position_embeddings = self._add_positions(inputs_embeds, position_ids)
        hidden_states = self.dropout(hidden_states)
        masks = self._build_masks(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            # those made here restart nowhere: transformers would look whether they do
            position_ids=given_position_ids,
            past_key_values=past_key_values,
            branch_ids=branch_ids,
        )
        inputs_embeds = hidden_states
        wants_weights = self.config.output_attentions if output_attentions is None else output_attentions
        wants_states = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        all_hidden_states, all_weights = [hidden_states], []
        for layer in self.layers:
            # what follows the last mixer goes position by position
            is_last = layer is self.layers[-1]
            hidden_states, weights = layer(
                hidden_states,
                attention_mask=masks[layer.mask_type],
                position_ids=position_ids,
                position_embeddings=position_embeddings,
                branch_ids=branch_ids,
                token_mask=token_mask,
                inputs_embeds=inputs_embeds,
                past_key_values=past_key_values,
                kept_rows=kept_rows if is_last and not wants_states else None,
                **kwargs,
            )
            if wants_states:
                all_hidden_states.append(hidden_states)
            if wants_weights:
                all_weights.append(weights)
        count_tokens(past_key_values, inputs_embeds.shape[1])
        hidden_states = self.norm(hidden_states)
        # as elsewhere in transformers, the last entry is the normalised output
        all_hidden_states[-1] = hidden_states
        if wants_states:
            hidden_states = keep_rows(hidden_states, kept_rows)

        return BaseModelOutputWithPast(
            last_hidden_state=hidden_states,
            past_key_values=past_key_values,
            hidden_states=tuple(all_hidden_states) if wants_states else None,
            attentions=tuple(all_weights) if wants_weights else None,
        )

    def _check_masks(self, attention_mask, branch_ids, position_ids, past_key_values) -> None:
        implementation = self.config._attn_implementation
        if isinstance(attention_mask, torch.Tensor) and attention_mask.ndim == 4:
            if "flash" in implementation:
                raise ValueError("flash attention takes no 4-D attention_mask: use sdpa or eager for this call")
            if attention_mask.dtype == torch.bool and implementation != "sdpa":
                raise ValueError(
                    f"{implementation} attention adds a 4-D attention_mask to the scores, so a boolean one "
                    "would hide nothing: give 0 where a key is seen and a large negative number elsewhere"
                )
            if (name := self._goes_by_order()) is not None:
                raise ValueError(f"{name} takes no 4-D attention_mask: give a (batch, length) one of padding")
        if branch_ids is None:
            if position_ids is not None and attention_mask is None and past_key_values is None:
                self._check_order(position_ids)
            return
        if position_ids is None:
            raise ValueError("branch_ids need position_ids that restart after the stem")
        if past_key_values is not None:
            raise ValueError("branch_ids are for training: they cannot be combined with a cache")
        if "flash" in implementation:
            raise ValueError("flash attention cannot keep branches apart: set attn_implementation to sdpa or eager")
        for name in dict.fromkeys(self.config.attention_types):
            if not get_attention_type(name).supports_branches:
                raise ValueError(f"attention_type={name!r} cannot take branches: set objective_layout to unrolled")

    def _check_order(self, position_ids: torch.Tensor) -> None:
        """Sequences packed into one row, whose positions restart, are kept apart by masks alone."""
        name = self._goes_by_order()
        if name is not None and bool((position_ids.diff(dim=-1) < 0).any()):
            raise ValueError(f"{name} cannot keep sequences apart whose position_ids restart: give each its own row")

    def _goes_by_order(self) -> str | None:
        """The setting by which a layer reads its past in another way than through a mask of tokens, if one does."""
        if self.config.canon_width:
            return f"canon_width={self.config.canon_width}"
        if self.config.ngram_orders:
            return f"ngram_orders={self.config.ngram_orders}"
        for name, layer in zip(self.config.attention_types, self.layers, strict=True):
            if layer.mask_type in (None, "visible"):
                return f"attention_type={name!r}"
        return None

    def _check_length(self, length: int) -> None:
        limit = self.config.max_position_embeddings
        if length > limit:
            raise ValueError(f"a sequence of {length} tokens does not fit max_position_embeddings={limit}")

    def _add_positions(self, inputs_embeds, position_ids):
        """The embedded tokens, with learned positions added or rotary angles beside them."""
        if self.config.position_embedding_type == "rotary":
            return inputs_embeds, self.rotary_embedding(position_ids, inputs_embeds.dtype)
        return inputs_embeds + self.embed_positions(position_ids), None

    def _build_masks(self, **arguments) -> dict:
        """One mask for each kind that the layers ask for."""
        kinds = {layer.mask_type for layer in self.layers}
        return {kind: build_mask(kind, config=self.config, **arguments) for kind in kinds}


def positions_from_mask(
    attention_mask: torch.Tensor | None, inputs_embeds: torch.Tensor, seen: int
) -> torch.LongTensor:
    """(batch, length) positions that do not count padding; (1, length) where there is none."""
    length = inputs_embeds.shape[1]
    if isinstance(attention_mask, torch.Tensor) and attention_mask.ndim == 2:
        return (attention_mask.long().cumsum(dim=-1) - 1).clamp(min=0)[:, -length:]
    return (torch.arange(length, device=inputs_embeds.device) + seen).unsqueeze(0)


def tokens_of_mask(attention_mask: torch.Tensor | None, length: int) -> torch.Tensor | None:
    """(batch, length), True for the newest tokens and False for padding; None where no padding is marked."""
    if not isinstance(attention_mask, torch.Tensor) or attention_mask.ndim == 4:
        return None
    return attention_mask[:, -length:].bool()


class BirthGPTForCausalLM(BirthGPTPreTrainedModel, GenerationMixin):
    """The model with an output head over the vocabulary."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: BirthGPTConfig):
        super().__init__(config)
        self.model = BirthGPTModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def _prepare_static_cache(self, *args, **kwargs) -> Cache:
        if STATE_LAYER in self.config.layer_types:
            names = ", ".join(dict.fromkeys(self.config.attention_types))
            settings = {"canon_width": self.config.canon_width, "ngram_orders": self.config.ngram_orders}
            given = "".join(f" with {name}={value}" for name, value in settings.items() if value)
            raise ValueError(f"attention_type {names}{given} has no static cache: leave cache_implementation out")
        return super()._prepare_static_cache(*args, **kwargs)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        branch_ids: torch.LongTensor | None = None,
        labels: torch.LongTensor | None = None,
        shift_labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        num_items_in_batch: int | torch.Tensor | None = None,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """Predict the next token; the arguments of `BirthGPTModel.forward`, and:

        Args:
            labels: (batch, length), the inputs again, −100 where nothing is to be learned; shifted inside.
            shift_labels: (batch, length), the target of each position itself, −100 for none.
            logits_to_keep: the last k positions (0: all); positions, (count,) or (batch, count); or a boolean
                (batch, length): the head is computed at the True positions only, and the logits are
                (positions, vocab_size).
            num_items_in_batch: divide the summed loss by this, instead of averaging over these targets.

        Returns:
            `loss` where targets were given, `logits` (batch, length or k, vocab_size), `past_key_values`,
            `hidden_states` and `attentions` (one entry a layer, None where the type has none to show).
        """
        inputs = input_ids if input_ids is not None else inputs_embeds
        # neither is given: the model says so
        kept_rows = rows_to_keep(logits_to_keep, *inputs.shape[:2], inputs.device) if inputs is not None else None
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            branch_ids=branch_ids,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            kept_rows=kept_rows,
            **kwargs,
        )
        logits = self.lm_head(outputs.last_hidden_state)
        loss = None
        if labels is not None or shift_labels is not None:
            if shift_labels is None:
                shift_labels = nn.functional.pad(labels, (0, 1), value=-100)[:, 1:]
            if isinstance(logits_to_keep, torch.Tensor) and logits_to_keep.dtype == torch.bool:
                shift_labels = shift_labels.flatten()[kept_rows]
            loss = self.loss_function(
                logits=logits,
                labels=labels,
                vocab_size=self.config.vocab_size,
                shift_labels=shift_labels.contiguous(),
                num_items_in_batch=num_items_in_batch,
            )
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


__all__ = ["BirthGPTForCausalLM", "BirthGPTModel", "BirthGPTPreTrainedModel"]
