"""transformers: pipeline, a batch of chats."""

import birthgpt
from datasets import load_dataset
from transformers import pipeline

rows = load_dataset("json", data_files="questions.jsonl", split="train")
chats = [[{"role": "user", "content": question}] for question in rows["question"]]
ask = pipeline("text-generation", "you/model", batch_size=4)
answers = [reply[0]["generated_text"][-1]["content"] for reply in ask(chats)]
