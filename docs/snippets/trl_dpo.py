"""TRL: DPOTrainer."""

import birthgpt
from datasets import load_dataset
from trl import DPOConfig, DPOTrainer

rows = load_dataset("json", data_files="new_questions.jsonl", split="train").select_columns(["question", "answer"])
rows = rows.map(lambda row: {"prompt": f"{row['question']}⁇", "chosen": row["answer"], "rejected": "I forgot"})
settings = DPOConfig("runs/dpo", max_steps=8, learning_rate=1e-3, logging_steps=1, bf16=False, report_to=[])
trainer = DPOTrainer("you/model", args=settings, train_dataset=rows)
trainer.train()
