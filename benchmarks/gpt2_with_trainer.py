"""GPT-2 with transformers' Trainer on the objective of the assignment, in a given time.

    python benchmarks/gpt2_with_trainer.py --data_dir ../shared/data/cs224n --seconds 400

The model has the assignment's size (4 layers of width 256, 8 heads) and its tokens, characters in blocks of 128. Three
quarters of the time are span corruption on wiki.txt, with new spans in every epoch; the rest is finetuning on the train
questions but 400. Then the 400 questions and the development questions are answered, outside of the time.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
import transformers
from transformers import DataCollatorForSeq2Seq, GPT2Config, GPT2LMHeadModel, TrainerCallback, TrainingArguments

from birthgpt.commands.building import build_tokenizer
from birthgpt.data.batching import map_objective, used_length
from birthgpt.data.corpus import load_corpus
from birthgpt.data.objectives import IGNORE, Objective, QuestionAnswering, SpanCorruption
from birthgpt.data.questions import load_questions
from birthgpt.data.splits import train_validation_split
from birthgpt.data.tokenizers import TokenizerSettings
from birthgpt.evaluation.answering import answer_questions
from birthgpt.utils.files import save_json

BLOCK, HELD_OUT, PRETRAINING = 128, 400, 0.75
MOST_EPOCHS = 1000


class Examples(torch.utils.data.Dataset):
    """The examples of an objective, drawn again in each epoch; one item is one example of the current epoch."""

    def __init__(self, rows, objective: Objective, seed: int):
        self.rows, self.objective, self.seed = rows, objective, seed
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        """Draw the examples of an epoch."""
        self.examples = map_objective(self.rows, self.objective, seed=self.seed, epoch=epoch)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        example = self.examples[index]
        length = used_length(example["shift_labels"])
        targets = example["shift_labels"][:length]
        # GPT-2 shifts the labels by itself, so the last target is an input too
        return {"input_ids": [*example["input_ids"][:length], targets[-1]], "labels": [IGNORE, *targets]}


class Deadline(TrainerCallback):
    """New examples in each epoch, and the end of the training at a time."""

    def __init__(self, examples: Examples, until: float):
        self.examples, self.until, self.epoch = examples, until, 0

    def on_epoch_end(self, args, state, control, **others):
        self.epoch += 1
        self.examples.start_epoch(self.epoch)

    def on_step_end(self, args, state, control, **others):
        control.should_training_stop = time.perf_counter() >= self.until


def train(model: GPT2LMHeadModel, tokenizer, examples: Examples, until: float, seed: int) -> None:
    """Train until a time."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, num_train_epochs=MOST_EPOCHS, per_device_train_batch_size=128, learning_rate=6e-4,
            lr_scheduler_type="constant_with_warmup", warmup_steps=10, weight_decay=0.1, save_strategy="no",
            report_to="none", use_cpu=True, disable_tqdm=True, seed=seed,
        )  # fmt: skip
        pad = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORE)
        transformers.Trainer(
            model, arguments, train_dataset=examples, data_collator=pad, callbacks=[Deadline(examples, until)]
        ).train()


def accuracy(model: GPT2LMHeadModel, tokenizer, rows) -> float:
    """The fraction of questions whose answer is right."""
    answers = answer_questions(model, tokenizer, [row["question"] for row in rows])
    return sum(answer.text == row["answer"] for answer, row in zip(answers, rows, strict=True)) / len(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True, help="folder of the CS224N files")
    parser.add_argument("--seconds", type=float, required=True, help="the time of both trainings")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output_file", type=Path, help="write the metrics here")
    options = parser.parse_args()
    started = time.perf_counter()
    transformers.set_seed(options.seed)
    corpus = load_corpus(str(options.data_dir / "wiki.txt"))
    questions = load_questions(str(options.data_dir / "birth_places_train.tsv"))
    tokenizer = build_tokenizer(TokenizerSettings(tokenizer_type="character"), (row["text"] for row in corpus), BLOCK)
    trained, held_out = train_validation_split(questions, HELD_OUT, options.seed)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=BLOCK, n_embd=256, n_layer=4, n_head=8, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    spans = Examples(corpus, SpanCorruption(tokenizer, BLOCK), options.seed)
    train(model, tokenizer, spans, started + PRETRAINING * options.seconds, options.seed)
    asked = Examples(trained, QuestionAnswering(tokenizer, BLOCK), options.seed)
    train(model, tokenizer, asked, started + options.seconds, options.seed)
    seconds = time.perf_counter() - started
    model.eval()
    metrics = {"seconds": seconds, "held_out_accuracy": accuracy(model, tokenizer, list(held_out))}
    metrics["dev_accuracy"] = accuracy(model, tokenizer, list(load_questions(str(options.data_dir / "birth_dev.tsv"))))
    print(metrics)
    if options.output_file:
        save_json(options.output_file, metrics)


if __name__ == "__main__":
    main()
