"""The model: embeddings, blocks, `BirthGPTModel` and `BirthGPTForCausalLM`, in reading order."""

from typing import Any

import torch
from torch import nn
from transformers.cache_utils import Cache, DynamicCache
from transformers.generation import GenerationMixin
from transformers.masking_utils import create_masks_for_generate
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .attention_types import build_block
from .block import Block
from .cache import STATE_LAYER, count_tokens, grow_by_doubling
from .configuration_birthgpt import BirthGPTConfig
from .input_checks import (
    check_attention_mask,
    check_bidirectional,
    check_branches,
    check_positions,
    check_tokens,
    packed_sequences,
    reconcile_cached_mask,
)
from .layers import HiddenDropout, RotaryEmbedding, build_norm, flat_positions, select_positions, select_targets
from .masks import build_mask, build_masks, positions_from_mask, token_mask_of
from .modeling_base import (
    BirthGPTPreTrainedModel,
    LearnedPositions,
    as_int64,
    without_missing_attentions,
    without_needless_cache,
)
from .ngrams import NgramEmbedding


class BirthGPTModel(BirthGPTPreTrainedModel):
    """The stack of blocks, from token ids to normalised hidden states; with `is_causal=False`, an encoder."""

    def __init__(self, config: BirthGPTConfig):
        super().__init__(config)
        # one table of tokens serves both stacks: a decoder with an encoder receives embedded tokens
        embeds = not config.add_cross_attention
        self.embed_tokens: Any = nn.Embedding(config.vocab_size, config.hidden_size) if embeds else None
        self.embed_ngrams = NgramEmbedding(config) if embeds and config.ngram_orders else None
        if config.position_embedding_type == "learned":
            self.embed_positions = LearnedPositions(config.max_position_embeddings, config.hidden_size)
        else:
            self.rotary_embedding = RotaryEmbedding(config)
        self.dropout = HiddenDropout(config)
        self.layers = nn.ModuleList(build_block(config, name, i) for i, name in enumerate(config.attention_types))
        self.norm = build_norm(config, config.hidden_size)
        self.gradient_checkpointing = False
        # FSDP needs every class in this list, so it contains only classes that are in the model
        self._no_split_modules = {type(layer).__name__ for layer in self.layers}
        self.post_init()

    @without_needless_cache
    @merge_with_config_defaults
    @can_return_tuple
    @without_missing_attentions
    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | dict | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        branch_ids: torch.Tensor | None = None,
        use_cache: bool | None = None,
        positions_to_keep: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """The normalised hidden states after the last block.

        Args:
            input_ids: (batch, length); or `inputs_embeds`, (batch, length, hidden_size).
            attention_mask: (batch, seen + length), 0 for padding on either side; or a 4-D mask of the caller; or a
                dictionary with a mask for each layer type, which `generate` makes for a static cache.
            position_ids: (batch or 1, length); computed from `attention_mask` if not given. Where the position of a
                token is not greater than that of the token before, a sequence of its own starts (packed sequences).
            past_key_values: the cache to continue from. Packed sequences and branches neither have nor make a cache.
            branch_ids: (batch, length): 0 for the shared prefix, k > 0 for branch k, −1 for padding, as in tree
                attention. A branch sees only the prefix and itself. `position_ids` restart after the prefix.
            kwargs: for a decoder with an encoder, `encoder_hidden_states`, `encoder_mask` and `cross_cache`; see
                `CrossAttention.forward`. It has no token embeddings, and takes `inputs_embeds`.
            use_cache: whether to make a cache; by default `config.use_cache`, but not in training mode. An encoder has
                neither a cache nor branches nor packed sequences.
            positions_to_keep: the positions whose states are returned, from `layers.flat_positions`; None for all.

        Raises:
            ValueError: both or neither of `input_ids` and `inputs_embeds`, or `inputs_embeds` with n-grams; a position
                without a learned vector; branches or packed sequences with a cache, with flash attention or
                with an attention type that does not support them; branches without `position_ids`; a boolean 4-D mask
                that would be added to scores; a 4-D mask for a model that reads its past in token order.
        """
        layers: list[Block] = list(self.layers)  # type: ignore[arg-type]
        check_tokens(input_ids, inputs_embeds, needs_ids=self.embed_ngrams is not None)
        input_ids, position_ids, branch_ids = (as_int64(ids) for ids in (input_ids, position_ids, branch_ids))
        check_attention_mask(attention_mask, self.config, layers)
        if not self.config.is_causal:
            check_bidirectional(branch_ids, past_key_values, use_cache)
        sequences = None
        if branch_ids is not None:
            check_branches(position_ids, past_key_values, self.config, layers)
        else:
            sequences = packed_sequences(position_ids, attention_mask, past_key_values, self.config, layers)
            branch_ids = sequences
        if use_cache and past_key_values is None and branch_ids is None:
            past_key_values = DynamicCache(config=self.config)
        grow_by_doubling(past_key_values)

        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)
        reconcile_cached_mask(attention_mask, inputs_embeds.shape[1], past_key_values, self.config, layers)
        if branch_ids is not None:
            branch_ids = branch_ids.expand(inputs_embeds.shape[0], -1)
        tokens: dict[str, Any] = {"branch_ids": branch_ids, "past_key_values": past_key_values}
        tokens["token_mask"] = token_mask_of(attention_mask, inputs_embeds.shape[1])
        if self.embed_ngrams is not None:
            inputs_embeds = inputs_embeds + self.embed_ngrams(input_ids, **tokens)
        masks = build_masks(
            layers,
            self.config,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            # of sequences in one row, a window counts tokens; of branches, positions behind the prefix
            position_ids=position_ids if sequences is None else None,
            past_key_values=past_key_values,
            branch_ids=branch_ids,
        )
        most = None
        if position_ids is None:
            seen = past_key_values.get_seq_length() if past_key_values is not None else 0
            position_ids, most = positions_from_mask(attention_mask, inputs_embeds, seen), seen + inputs_embeds.shape[1]
        hidden_states, position_embeddings = self.add_positions(inputs_embeds, position_ids, tokens["token_mask"], most)

        hidden_states = self.run_blocks(
            hidden_states,
            masks,
            positions_to_keep,
            position_ids=position_ids,
            position_embeddings=position_embeddings,
            **tokens,
            **kwargs,
        )
        count_tokens(past_key_values, inputs_embeds, tokens["token_mask"])
        return BaseModelOutputWithPast(last_hidden_state=self.norm(hidden_states), past_key_values=past_key_values)

    def add_positions(
        self, inputs_embeds: torch.Tensor, position_ids: torch.Tensor, token_mask: torch.Tensor | None, most: int | None
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor] | None]:
        """The embedded tokens, with learned positions added, and the rotary cosines and sines or None.

        `most` is an argument of `check_positions`.
        """
        if self.config.position_embedding_type == "rotary":
            return self.dropout(inputs_embeds), self.rotary_embedding(position_ids, inputs_embeds.dtype)
        if token_mask is not None:
            # padding may have any position
            position_ids = position_ids.masked_fill(~token_mask, 0)
        check_positions(position_ids, self.config.max_position_embeddings, most)
        return self.dropout(inputs_embeds + self.embed_positions(position_ids)), None

    def run_blocks(
        self,
        hidden_states: torch.Tensor,
        masks: list,
        positions_to_keep: torch.Tensor | None,
        encoder_hidden_states: torch.Tensor | None = None,
        **kwargs,
    ) -> torch.Tensor:
        """The states after all blocks; the last block returns only the positions to keep."""
        inputs_embeds, last = hidden_states, len(masks) - 1
        for index, (layer, mask) in enumerate(zip(self.layers, masks, strict=True)):
            hidden_states = layer(
                hidden_states,
                inputs_embeds,
                encoder_hidden_states,
                attention_mask=mask,
                positions_to_keep=positions_to_keep if index == last else None,
                **kwargs,
            )
        return hidden_states


class BirthGPTForCausalLM(BirthGPTPreTrainedModel, GenerationMixin):
    """The model with an output head over the vocabulary."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}
    _tp_plan = {"lm_head": "colwise_gather_output"}
    _fsdp_plan = {"lm_head": "keep_full_weight"}

    def __init__(self, config: BirthGPTConfig):
        if not config.is_causal:
            raise ValueError("is_causal=False: a language model must be causal: BirthGPTModel is the encoder")
        if config.is_encoder_decoder or config.add_cross_attention:
            raise ValueError(
                "the configuration is that of an encoder–decoder: load it by AutoModelForSeq2SeqLM, or build "
                "BirthGPTForConditionalGeneration"
            )
        super().__init__(config)
        self.model = BirthGPTModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        # `generate` refuses assisted generation by it
        self._is_stateful = not all(layer.cache_can_crop for layer in self.model.layers)
        self.post_init()

    def _validate_generation_mode(self, generation_mode, generation_config, generation_mode_kwargs) -> None:
        super()._validate_generation_mode(generation_mode, generation_config, generation_mode_kwargs)  # type: ignore[misc]
        assistant = generation_mode_kwargs.get("assistant_model")
        if getattr(assistant, "_is_stateful", False) or (generation_config.is_assistant and self._is_stateful):
            raise ValueError(
                "the assistant model cannot take back tokens that the main model rejects: choose an assistant with "
                "softmax, sliding_softmax, synthesizer or bigbird attention"
            )

    def _prepare_position_ids_for_generation(self, inputs_tensor, model_kwargs) -> torch.Tensor:
        position_ids = super()._prepare_position_ids_for_generation(inputs_tensor, model_kwargs)
        attention_mask = model_kwargs.get("attention_mask")
        if isinstance(attention_mask, torch.Tensor) and attention_mask.ndim == 2:
            # the next position is one more than the last: after padding on the right, transformers has 0 there
            position_ids = (attention_mask.long().cumsum(dim=-1) - 1).clamp(min=0)
        return position_ids

    @staticmethod
    def create_masks_for_generate(config, inputs_embeds, attention_mask, past_key_values, **kwargs) -> Any:
        """The masks for a static cache, which `generate` makes before a compiled forward."""
        masks = create_masks_for_generate(config, inputs_embeds, attention_mask, past_key_values, **kwargs)
        if isinstance(masks, dict) and "sliding_attention" in masks:
            masks["sliding_attention"] = build_mask(
                "sliding",
                config,
                inputs_embeds=inputs_embeds,
                attention_mask=attention_mask,
                past_key_values=past_key_values,
                window=config.sliding_window,
            )
        return masks

    def _prepare_static_cache(self, *args, **kwargs) -> Cache:
        if STATE_LAYER in self.config.layer_types:
            names = ", ".join(dict.fromkeys(self.config.attention_types))
            settings = {"canon_width": self.config.canon_width, "ngram_orders": self.config.ngram_orders}
            given = "".join(f" with {name}={value}" for name, value in settings.items() if value)
            raise ValueError(f"attention_type {names}{given} has no static cache: leave cache_implementation out")
        return super()._prepare_static_cache(*args, **kwargs)  # type: ignore[misc]

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | dict | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        branch_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        num_items_in_batch: int | torch.Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Predict the next token. It takes the arguments of `BirthGPTModel.forward`, and:

        Args:
            labels: (batch, length), the input ids, or −100 for no target; the model shifts them.
            shift_labels: (batch, length), the target of each position, or −100 for no target. It is one of `kwargs`,
                because the `Trainer` of transformers requires every label of the signature.
            use_cache: by default False where labels are given.
            logits_to_keep: an int for the last k positions (0: all); positions, (count,) or (batch, count); or a
                boolean mask, (batch, length): the head is computed only at the True positions, and the logits are
                (positions, vocab_size).
            num_items_in_batch: the number by which the summed loss is divided; by default the number of targets.

        Returns:
            `loss` if there are targets, `logits` (batch, length or k, vocab_size), `past_key_values`, `hidden_states`
            and `attentions` (one entry for each layer, None if the type does not return weights; empty if no layer
            does).
        """
        shift_labels = kwargs.pop("shift_labels", None)
        if use_cache is None and not (labels is None and shift_labels is None):
            use_cache = False
        inputs = input_ids if input_ids is not None else inputs_embeds
        positions = None
        # without inputs, `self.model` raises the error
        if inputs is not None:
            batch, length = inputs.shape[:2]
            positions = flat_positions(logits_to_keep, batch, length, inputs.device)
        # the last block skips positions without logits, unless its states are an output
        shows_states = kwargs.get("output_hidden_states", self.config.output_hidden_states)
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            branch_ids=branch_ids,
            use_cache=use_cache,
            positions_to_keep=None if shows_states else positions,
            **kwargs,
        )
        hidden_states = outputs.last_hidden_state
        logits = self.lm_head(select_positions(hidden_states, positions) if shows_states else hidden_states)
        loss = None
        labels, shift_labels = as_int64(labels), as_int64(shift_labels)
        if labels is not None and shift_labels is None:
            shift_labels = nn.functional.pad(labels, (0, 1), value=-100)[:, 1:]
        if shift_labels is not None:
            loss = self.loss_function(
                logits=logits,
                labels=labels,
                vocab_size=self.config.vocab_size,
                shift_labels=select_targets(shift_labels, positions, logits_to_keep),
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
