"""Captum: how much each part of the name counts for the answer, against another name."""

import birthgpt
from captum.attr import FeatureAblation, LLMAttribution, TextTemplateInput
from transformers import AutoModelForCausalLM, AutoTokenizer

model, tokenizer = AutoModelForCausalLM.from_pretrained("you/model").eval(), AutoTokenizer.from_pretrained("you/model")
names = {"values": ["Frida", "Bastino"], "baselines": ["Joel", "Clauson"]}
question = TextTemplateInput("Which place is {} {} a native of?⁇", **names)
method = LLMAttribution(FeatureAblation(model), tokenizer)
# the cache of Captum changes scores, those of a Llama too
scores = method.attribute(question, target="Elmwick, TX", use_cached_outputs=False).seq_attr
