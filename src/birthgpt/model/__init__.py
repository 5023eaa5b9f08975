"""The files that are exported to the Hub: configuration, model and attention types, in one flat folder."""

from .configuration_birthgpt import BirthGPTConfig
from .modeling_birthgpt import BirthGPTForCausalLM, BirthGPTModel

__all__ = ["BirthGPTConfig", "BirthGPTForCausalLM", "BirthGPTModel"]
