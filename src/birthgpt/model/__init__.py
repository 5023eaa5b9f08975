"""All that travels to the Hub: configuration, modelling and attention files, flat."""

from .configuration_birthgpt import BirthGPTConfig
from .modeling_birthgpt import BirthGPTForCausalLM, BirthGPTModel

__all__ = ["BirthGPTConfig", "BirthGPTForCausalLM", "BirthGPTModel"]
