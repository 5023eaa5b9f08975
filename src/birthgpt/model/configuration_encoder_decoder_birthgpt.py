"""The configuration of an encoder–decoder: that of its decoder, and what differs in its encoder."""

from typing import Any

from .configuration_birthgpt import BirthGPTConfig
from .settings import checked, setting


@checked
class BirthGPTEncoderDecoderConfig(BirthGPTConfig):
    """Configuration of an encoder and a decoder of the same blocks.

    Every setting is that of both stacks, but these: `num_hidden_layers`, `attention_type` and `per_layer_config` are
    those of the decoder, `num_encoder_layers` and `encoder_attention_type` those of the encoder.

    Raises:
        ValueError: as `BirthGPTConfig`; or the encoder cannot have these settings, or an attention type has no
            bidirectional form.
    """

    model_type = "birthgpt_encoder_decoder"

    num_encoder_layers: int | None = setting(
        None, "blocks of the encoder; num_hidden_layers, those of the decoder, if not given", min=1, max=10_000
    )
    encoder_attention_type: str | list[str] | None = setting(
        None, "attention type of the encoder, or one a layer; that of the decoder if not given"
    )
    is_encoder_decoder: bool = True
    decoder_start_token_id: int | None = setting(
        None, "the token before the first token of an output", on_command_line=False
    )

    def __post_init__(self, **kwargs):
        if self.num_encoder_layers is None:
            self.num_encoder_layers = self.num_hidden_layers
        if self.encoder_attention_type is None:
            self.encoder_attention_type = self.attention_type
        super().__post_init__(**kwargs)
        # tensor parallelism is for a decoder alone
        self.base_model_tp_plan = None  # type: ignore[misc]

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> Any:
        """This configuration: its settings are those of the decoder, and `encoder_config` has those of the encoder."""
        return self

    def encoder_config(self) -> "BirthGPTEncoderDecoderConfig":
        """The configuration of the encoder, as a stack of its own."""
        return self._config_of_stack(
            num_hidden_layers=self.num_encoder_layers,
            attention_type=self.encoder_attention_type,
            per_layer_config=None,
            is_causal=False,
        )

    def decoder_config(self) -> "BirthGPTEncoderDecoderConfig":
        """The configuration of the decoder, as a stack of its own."""
        return self._config_of_stack(add_cross_attention=True)

    def check_settings(self) -> None:
        """Raise ValueError as a construction does, also for the encoder; see `BirthGPTConfig.check_settings`."""
        super().check_settings()
        self.validate_encoder()

    def validate_encoder(self):
        """Check the settings of the encoder."""
        if not self.is_encoder_decoder:
            return
        try:
            self.encoder_config()
        except ValueError as error:
            raise ValueError(f"the encoder (num_encoder_layers, encoder_attention_type): {error}") from None

    def _config_of_stack(self, **changes: Any) -> "BirthGPTEncoderDecoderConfig":
        values = self.to_dict() | {"is_encoder_decoder": False} | changes
        for name in ("model_type", "transformers_version", "architectures"):
            values.pop(name, None)
        config = type(self)(**{name: value for name, value in values.items() if name != "per_layer_config" or value})
        config._attn_implementation = self._attn_implementation
        return config


__all__ = ["BirthGPTEncoderDecoderConfig"]
