"""torch.export: a graph for batches of one shape."""

import birthgpt
import torch
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("you/model", use_cache=False).eval()
inputs = {"input_ids": torch.ones(2, 8, dtype=torch.long)}
graph = torch.export.export(model, (), inputs, strict=False).module()
