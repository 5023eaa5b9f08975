"""torch.export: one graph for batches of every shape, with padding."""

import birthgpt
import torch
from torch.export import Dim, export
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("you/model", use_cache=False).eval()
inputs = {name: torch.ones(2, 8, dtype=torch.long) for name in ("input_ids", "attention_mask")}
shapes = dict.fromkeys(inputs, {0: Dim("batch", max=64), 1: Dim("length", min=2, max=128)})
torch.export.save(export(model, (), inputs, dynamic_shapes=shapes, strict=False), "model.pt2")
graph = torch.export.load("model.pt2").module()
