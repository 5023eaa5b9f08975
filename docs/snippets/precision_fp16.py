"""transformers: fp16."""

import birthgpt
from datasets import load_dataset
from transformers import pipeline

ask = pipeline("text-generation", "you/model", dtype="float16")
rows = load_dataset("json", data_files="questions.jsonl", split="train")
answers = [reply[0]["generated_text"] for reply in ask(list(rows["question"]), return_full_text=False)]
