"""datasets: lines and questions of your own, as files."""

from datasets import load_dataset

lines = load_dataset("text", data_files="people/biographies.txt", split="train")
rows = load_dataset("json", data_files="people/questions_dev.jsonl", split="train")
columns = ["question", "answer"]
table = load_dataset("csv", data_files="people/questions_dev.tsv", sep="\t", names=columns, quoting=3, split="train")
