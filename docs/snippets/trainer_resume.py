"""transformers: that Trainer, resumed from a checkpoint."""

import birthgpt
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

model, tokenizer = AutoModelForCausalLM.from_pretrained("you/model"), AutoTokenizer.from_pretrained("you/model")
rows = load_dataset("json", data_files="new_questions.jsonl", split="train")
rows = rows.map(lambda row: tokenizer(f"{row['question']}⁇{row['answer']}␃"), remove_columns=rows.column_names)
arguments = TrainingArguments("runs/resumed", max_steps=6, report_to=[])
collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
trainer = Trainer(model, arguments, collator, train_dataset=rows)
trainer.train(resume_from_checkpoint="runs/trainer/checkpoint-2")
