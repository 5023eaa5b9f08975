"""PEFT: LoRA, trained, saved, loaded and merged."""

import birthgpt
from datasets import load_dataset
from peft import AutoPeftModelForCausalLM, LoraConfig
from trl import SFTConfig, SFTTrainer

rows = load_dataset("json", data_files="new_questions.jsonl", split="train").select_columns(["question", "answer"])
rows = rows.map(lambda row: {"prompt": f"{row['question']}⁇", "completion": row["answer"]})
lora = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear")
settings = SFTConfig("runs/lora", max_steps=20, learning_rate=1e-2, logging_steps=1, bf16=False, report_to=[])
trainer = SFTTrainer("you/model", args=settings, train_dataset=rows, peft_config=lora)
trainer.train()
trainer.save_model("runs/lora/adapter")
merged = AutoPeftModelForCausalLM.from_pretrained("runs/lora/adapter").merge_and_unload()
