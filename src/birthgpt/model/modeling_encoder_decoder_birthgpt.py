"""The encoder–decoder: `BirthGPTEncoder`, `BirthGPTDecoder` and `BirthGPTForConditionalGeneration`.

Both are stacks of the same blocks. The encoder runs its attention types in their bidirectional form; in each block of
the decoder, cross-attention to the states of the encoder follows the causal self-attention. One table of token
embeddings, that of the encoder, serves both stacks, as in T5 (Raffel et al., 1910.10683).
"""

from typing import Any

import torch
from torch import nn
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import BaseModelOutput, BaseModelOutputWithPast, Seq2SeqLMOutput
from transformers.utils.generic import can_return_tuple

from .block import Block, ShownWeights
from .configuration_encoder_decoder_birthgpt import BirthGPTEncoderDecoderConfig
from .cross_attention import ShownCrossWeights
from .input_checks import check_tokens
from .layers import flat_positions, select_positions, select_targets
from .masks import cross_mask, token_mask_of
from .modeling_base import BirthGPTPreTrainedModel, as_int64
from .modeling_birthgpt import BirthGPTForCausalLM, BirthGPTModel


class BirthGPTEncoder(BirthGPTModel):
    """The encoder alone: token ids to normalised states in which each token has seen all others.

    It is built from the configuration of the whole model or of the encoder, and loads from either checkpoint.
    """

    config: BirthGPTEncoderDecoderConfig
    config_class = BirthGPTEncoderDecoderConfig
    base_model_prefix = "encoder"
    _keys_to_ignore_on_load_unexpected = [r"^decoder\.", r"^lm_head\."]

    def __init__(self, config: BirthGPTEncoderDecoderConfig):
        super().__init__(config.encoder_config() if config.is_encoder_decoder else config)


class BirthGPTDecoder(BirthGPTModel):
    """The decoder: embedded tokens and encoder states to normalised states; a part of the whole model."""

    config: BirthGPTEncoderDecoderConfig
    config_class = BirthGPTEncoderDecoderConfig
    _can_record_outputs = {
        "hidden_states": Block,
        "attentions": ShownWeights,
        "cross_attentions": ShownCrossWeights,
    }


class BirthGPTForConditionalGeneration(BirthGPTPreTrainedModel, GenerationMixin):
    """An encoder that reads the input, and a decoder with an output head that writes the output."""

    config: BirthGPTEncoderDecoderConfig
    config_class = BirthGPTEncoderDecoderConfig
    base_model_prefix = "encoder"
    _tied_weights_keys = {"lm_head.weight": "encoder.embed_tokens.weight"}

    def __init__(self, config: BirthGPTEncoderDecoderConfig):
        if not config.is_encoder_decoder:
            raise ValueError("is_encoder_decoder=False: the configuration is that of an encoder: use BirthGPTEncoder")
        super().__init__(config)
        self.encoder = BirthGPTEncoder(config)
        self.decoder = BirthGPTDecoder(config.decoder_config())
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        # `generate` refuses assisted generation by it
        self._is_stateful = not all(layer.cache_can_crop for layer in self.decoder.layers)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.encoder.set_input_embeddings(value)

    def prepare_decoder_input_ids_from_labels(self, labels: torch.Tensor) -> torch.Tensor:
        """The inputs of the decoder for (batch, length) labels: `decoder_start_token_id`, then all but the last label.

        Raises:
            ValueError: the configuration has no `decoder_start_token_id` or no `pad_token_id`.
        """
        start, pad = self.config.decoder_start_token_id, self.config.pad_token_id
        for name, token in (("decoder_start_token_id", start), ("pad_token_id", pad)):
            if token is None:
                raise ValueError(f"{name}=None: set it in the configuration, or give decoder_input_ids")
        shifted = nn.functional.pad(labels, (1, 0), value=start)[..., :-1]
        return shifted.masked_fill(shifted == -100, pad)  # type: ignore[arg-type]

    def _prepare_cache_for_generation(self, generation_config, model_kwargs, *args, **kwargs) -> Any:
        result = super()._prepare_cache_for_generation(generation_config, model_kwargs, *args, **kwargs)  # type: ignore[misc]
        cache = model_kwargs.get("past_key_values")
        if isinstance(cache, EncoderDecoderCache) and not any(cache.is_updated.values()):
            # transformers gives it the layers of the decoder, whose windows would drop states of the encoder
            cache.cross_attention_cache = DynamicCache()
        return result

    def _prepare_static_cache(self, *args, **kwargs) -> Cache:
        raise ValueError("an encoder–decoder has no static cache: leave cache_implementation out")

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: BaseModelOutput | tuple | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        decoder_position_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        num_items_in_batch: int | torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        """Predict the next token of the output.

        Args:
            input_ids, attention_mask, inputs_embeds, position_ids: those of the encoder, see `BirthGPTModel.forward`.
            decoder_input_ids, …: those of the decoder; (batch, seen + length) for `decoder_attention_mask`.
            encoder_outputs: what the encoder returned for this input, to use again.
            past_key_values: the cache to continue from: that of the decoder, and keys and values of the encoder states.
            labels: (batch, length), the token that each position of the decoder must predict, or −100 for no target.
                Without inputs of the decoder, the model makes them by `prepare_decoder_input_ids_from_labels`.
            shift_labels: the same, with inputs of the decoder; one of `kwargs`, as in `BirthGPTForCausalLM.forward`.
            use_cache: by default False in training mode and where labels are given.
            logits_to_keep, num_items_in_batch: see `BirthGPTForCausalLM.forward`; they count positions of the decoder.

        Raises:
            ValueError: what `BirthGPTModel.forward` refuses in either stack; `branch_ids`; a cache of another kind.
        """
        labels, shift_labels = as_int64(labels), as_int64(kwargs.pop("shift_labels", None))
        targets = labels if shift_labels is None else shift_labels
        if kwargs.pop("branch_ids", None) is not None:
            raise ValueError("an encoder–decoder has no branches: leave out branch_ids (objective_layout: unrolled)")
        if labels is not None and decoder_input_ids is None and decoder_inputs_embeds is None:
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        if attention_mask is not None and attention_mask.ndim != 2:
            raise ValueError("attention_mask must be a (batch, length) mask of padding: both stacks read it")
        if use_cache is None:
            use_cache = self.config.use_cache and targets is None and not self.training
        past_key_values = self.cache_of_call(past_key_values, use_cache)
        if encoder_outputs is None and not has_encoder_states(past_key_values, input_ids, inputs_embeds):
            encoder_outputs = self.encoder(
                input_ids=input_ids,
                attention_mask=attention_mask,
                inputs_embeds=inputs_embeds,
                position_ids=position_ids,
                **kwargs,
            )
        encoder = as_output(encoder_outputs)

        check_tokens(decoder_input_ids, decoder_inputs_embeds, bool(self.config.ngram_orders), prefix="decoder_")
        given: Any = decoder_input_ids if decoder_inputs_embeds is None else decoder_inputs_embeds
        batch, length = given.shape[:2]
        positions = flat_positions(logits_to_keep, batch, length, given.device)
        shows_states = kwargs.get("output_hidden_states", self.config.output_hidden_states)
        decoder = self.decode(
            decoder_input_ids,
            decoder_inputs_embeds,
            decoder_attention_mask,
            encoder.last_hidden_state,
            attention_mask,
            past_key_values,
            position_ids=decoder_position_ids,
            positions_to_keep=None if shows_states else positions,
            **kwargs,
        )
        hidden_states: Any = decoder.last_hidden_state
        logits = self.lm_head(select_positions(hidden_states, positions) if shows_states else hidden_states)
        loss = None
        if targets is not None:
            loss = self.loss_function(
                logits=logits,
                labels=labels,
                vocab_size=self.config.vocab_size,
                shift_labels=select_targets(targets, positions, logits_to_keep),
                num_items_in_batch=num_items_in_batch,
            )
        return Seq2SeqLMOutput(
            loss=loss,
            logits=logits,
            past_key_values=past_key_values,
            decoder_hidden_states=decoder.hidden_states,
            decoder_attentions=decoder.attentions,
            cross_attentions=shown(decoder.get("cross_attentions")),
            encoder_last_hidden_state=encoder.last_hidden_state,
            encoder_hidden_states=encoder.hidden_states,
            encoder_attentions=encoder.attentions,
        )

    def cache_of_call(self, given: EncoderDecoderCache | None, use_cache: bool) -> EncoderDecoderCache | None:
        """The given cache, or a new one if `use_cache`; raises ValueError for a cache of another kind.

        There is none where activations are recomputed: the second pass would read what the first one kept.
        """
        # no isinstance of the layers: code from the Hub has its own copy of the class
        if given is not None and not isinstance(given, EncoderDecoderCache):
            raise ValueError(
                "past_key_values must be an EncoderDecoderCache(DynamicCache(config=model.config), DynamicCache())"
            )
        layers: list[Any] = list(self.decoder.layers)
        if self.training and any(layer.gradient_checkpointing for layer in layers):
            return None
        if given is None and use_cache:
            return EncoderDecoderCache(DynamicCache(config=self.config), DynamicCache())
        return given

    def decode(
        self,
        decoder_input_ids: torch.Tensor | None,
        inputs_embeds: torch.Tensor | None,
        decoder_attention_mask: torch.Tensor | None,
        encoder_hidden_states: torch.Tensor | None,
        encoder_attention_mask: torch.Tensor | None,
        cache: EncoderDecoderCache | None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """The states of the decoder: it embeds the tokens by the tables of the encoder, and masks its padding."""
        past = None if cache is None else cache.self_attention_cache
        if inputs_embeds is None:
            inputs_embeds = self.encoder.embed_tokens(as_int64(decoder_input_ids))
        if self.encoder.embed_ngrams is not None:
            token_mask = token_mask_of(decoder_attention_mask, inputs_embeds.shape[1])
            inputs_embeds = inputs_embeds + self.encoder.embed_ngrams(
                as_int64(decoder_input_ids), token_mask=token_mask, past_key_values=past
            )
        return self.decoder(
            inputs_embeds=inputs_embeds,
            attention_mask=decoder_attention_mask,
            past_key_values=past,
            use_cache=cache is not None,
            encoder_hidden_states=encoder_hidden_states,
            encoder_mask=cross_mask(self.decoder.config, inputs_embeds, encoder_hidden_states, encoder_attention_mask),
            cross_cache=cache,
            **kwargs,
        )


class RefusedLanguageModel(BirthGPTForCausalLM):
    """What `AutoModelForCausalLM` finds for an encoder–decoder: its construction says in one line what to load."""

    config_class = BirthGPTEncoderDecoderConfig


def has_encoder_states(
    cache: EncoderDecoderCache | None, input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None
) -> bool:
    """Whether a call without input continues from a cache that has the keys and values of the encoder states."""
    return input_ids is None and inputs_embeds is None and cache is not None and any(cache.is_updated.values())


def as_output(encoder_outputs: BaseModelOutput | tuple | None) -> BaseModelOutput:
    """The outputs of an encoder by name, whether they were given so, as a tuple or not at all."""
    if isinstance(encoder_outputs, BaseModelOutput | BaseModelOutputWithPast):
        return encoder_outputs
    return BaseModelOutput(*(encoder_outputs or ()))


def shown(cross_attentions: tuple | None) -> tuple | None:
    """The weights of the cross-attentions; empty if the attention implementation has none."""
    if cross_attentions and all(weights is None for weights in cross_attentions):
        return ()
    return cross_attentions


__all__ = ["BirthGPTDecoder", "BirthGPTEncoder", "BirthGPTForConditionalGeneration"]
