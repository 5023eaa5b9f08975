"""transformers: pipeline, a batch of questions."""

import birthgpt
from datasets import load_dataset
from transformers import pipeline

rows = load_dataset("json", data_files="questions.jsonl", split="train")
ask = pipeline("text-generation", "you/model", batch_size=4)
answers = [reply[0]["generated_text"] for reply in ask(list(rows["question"]), return_full_text=False)]
