"""accelerate: what does not fit into the memory of a device stays on the disk."""

import birthgpt
from datasets import load_dataset
from transformers import pipeline

places = {"device_map": "auto", "max_memory": {"cpu": "170KB"}, "offload_folder": "runs/offload"}
ask = pipeline("text-generation", "you/model", model_kwargs=places)
rows = load_dataset("json", data_files="questions.jsonl", split="train")
answers = [reply[0]["generated_text"] for reply in ask(list(rows["question"]), return_full_text=False)]
