"""datasets: the folder of `birthgpt people`, by its dataset card."""

from datasets import load_dataset

lines = load_dataset("./people", "biographies", split="train")
questions = load_dataset("./people", "questions")
