"""The files that are exported to the Hub: configuration, model and attention types, in one flat folder."""

from .configuration_birthgpt import BirthGPTConfig
from .configuration_encoder_decoder_birthgpt import BirthGPTEncoderDecoderConfig
from .modeling_birthgpt import BirthGPTForCausalLM, BirthGPTModel
from .modeling_encoder_decoder_birthgpt import BirthGPTEncoder, BirthGPTForConditionalGeneration
from .modeling_heads_birthgpt import (
    BirthGPTForQuestionAnswering,
    BirthGPTForSequenceClassification,
    BirthGPTForTokenClassification,
)

__all__ = [
    "BirthGPTConfig",
    "BirthGPTEncoder",
    "BirthGPTEncoderDecoderConfig",
    "BirthGPTForCausalLM",
    "BirthGPTForConditionalGeneration",
    "BirthGPTForQuestionAnswering",
    "BirthGPTForSequenceClassification",
    "BirthGPTForTokenClassification",
    "BirthGPTModel",
]
