"""Captum: integrated gradients of every token of the question."""

import birthgpt
from captum.attr import LayerIntegratedGradients, LLMGradientAttribution, TextTokenInput
from transformers import AutoModelForCausalLM, AutoTokenizer

model, tokenizer = AutoModelForCausalLM.from_pretrained("you/model").eval(), AutoTokenizer.from_pretrained("you/model")
method = LLMGradientAttribution(LayerIntegratedGradients(model, model.get_input_embeddings()), tokenizer)
question = TextTokenInput("Which place is Frida Bastino a native of?⁇", tokenizer)
result = method.attribute(question, target="Elmwick, TX")
scores = list(zip(result.input_tokens, result.seq_attr.tolist(), strict=True))
