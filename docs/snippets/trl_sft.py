"""TRL: SFTTrainer."""

import birthgpt
from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

rows = load_dataset("json", data_files="new_questions.jsonl", split="train").select_columns(["question", "answer"])
rows = rows.map(lambda row: {"prompt": f"{row['question']}⁇", "completion": row["answer"]})
settings = SFTConfig("runs/sft", max_steps=20, learning_rate=1e-2, logging_steps=1, bf16=False, report_to=[])
trainer = SFTTrainer("you/model", args=settings, train_dataset=rows)
trainer.train()
