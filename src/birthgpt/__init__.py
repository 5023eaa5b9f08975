"""birthgpt: how a small GPT stores knowledge in pretraining and recalls it when asked."""

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from birthgpt.code_version import code_version
from birthgpt.model import BirthGPTConfig, BirthGPTForCausalLM, BirthGPTModel

__version__ = "0.2.0"

BirthGPTConfig.installed_code = code_version(__version__)

AutoConfig.register(BirthGPTConfig.model_type, BirthGPTConfig, exist_ok=True)
AutoModel.register(BirthGPTConfig, BirthGPTModel, exist_ok=True)
AutoModelForCausalLM.register(BirthGPTConfig, BirthGPTForCausalLM, exist_ok=True)

__all__ = ["BirthGPTConfig", "BirthGPTForCausalLM", "BirthGPTModel", "__version__"]
