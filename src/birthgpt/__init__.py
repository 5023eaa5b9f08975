"""birthgpt: how a small GPT stores knowledge in pretraining and recalls it when asked."""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from birthgpt.code_version import code_version
from birthgpt.model import (
    BirthGPTConfig,
    BirthGPTEncoder,
    BirthGPTEncoderDecoderConfig,
    BirthGPTForCausalLM,
    BirthGPTForConditionalGeneration,
    BirthGPTForQuestionAnswering,
    BirthGPTForSequenceClassification,
    BirthGPTForTokenClassification,
    BirthGPTModel,
)
from birthgpt.model.modeling_encoder_decoder_birthgpt import RefusedLanguageModel

__version__ = "0.2.0"

BirthGPTConfig.installed_code = code_version(__version__)

AutoConfig.register(BirthGPTConfig.model_type, BirthGPTConfig, exist_ok=True)
AutoModel.register(BirthGPTConfig, BirthGPTModel, exist_ok=True)
AutoModelForCausalLM.register(BirthGPTConfig, BirthGPTForCausalLM, exist_ok=True)

AutoModelForSequenceClassification.register(BirthGPTConfig, BirthGPTForSequenceClassification, exist_ok=True)
AutoModelForTokenClassification.register(BirthGPTConfig, BirthGPTForTokenClassification, exist_ok=True)
AutoModelForQuestionAnswering.register(BirthGPTConfig, BirthGPTForQuestionAnswering, exist_ok=True)
AutoConfig.register(BirthGPTEncoderDecoderConfig.model_type, BirthGPTEncoderDecoderConfig, exist_ok=True)
AutoModel.register(BirthGPTEncoderDecoderConfig, BirthGPTEncoder, exist_ok=True)
AutoModelForCausalLM.register(BirthGPTEncoderDecoderConfig, RefusedLanguageModel, exist_ok=True)
AutoModelForSeq2SeqLM.register(BirthGPTEncoderDecoderConfig, BirthGPTForConditionalGeneration, exist_ok=True)

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
    "__version__",
]
