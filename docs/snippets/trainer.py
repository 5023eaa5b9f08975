"""transformers: Trainer, with its evaluation and the best of its checkpoints."""

import birthgpt
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

model, tokenizer = AutoModelForCausalLM.from_pretrained("you/model"), AutoTokenizer.from_pretrained("you/model")
rows = load_dataset("json", data_files="new_questions.jsonl", split="train")
rows = rows.map(lambda row: tokenizer(f"{row['question']}⁇{row['answer']}␃"), remove_columns=rows.column_names)
best = {"eval_strategy": "steps", "eval_steps": 2, "save_steps": 2, "load_best_model_at_end": True}
arguments = TrainingArguments("runs/trainer", max_steps=6, report_to=[], **best)
collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
trainer = Trainer(model, arguments, collator, train_dataset=rows, eval_dataset=rows)
trainer.train()
