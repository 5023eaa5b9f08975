"""torchao: weights of 8 bits."""

import birthgpt
from datasets import load_dataset
from torchao.quantization import Int8WeightOnlyConfig
from transformers import TorchAoConfig, pipeline

int8 = {"quantization_config": TorchAoConfig(Int8WeightOnlyConfig())}
ask = pipeline("text-generation", "you/model", model_kwargs=int8)
rows = load_dataset("json", data_files="questions.jsonl", split="train")
answers = [reply[0]["generated_text"] for reply in ask(list(rows["question"]), return_full_text=False)]
