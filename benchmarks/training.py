"""How fast the training engine is compared to transformers' Trainer with GPT-2 and to a plain loop.

python benchmarks/training.py --output_file benchmarks/training.json

All three train a model of the same shape (the wiki recipe's: d = 192, 3 layers, 6 heads, no dropout) with AdamW in
float32 on the assignment's examples: span corruption of characters in blocks of 128, about 4,096 tokens per batch. The
Trainer pads a batch to its longest example; the plain loop pads every example to the block, as the assignment does.
Tokens include pads; targets are tokens that have a loss. The first updates of a run, which compile and warm up, are not
counted.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch
import transformers
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from transformers import DataCollatorForSeq2Seq, GPT2Config, GPT2LMHeadModel, TrainingArguments

from birthgpt.commands.building import ModelSettings, build_model, build_tokenizer
from birthgpt.data.batching import BatchSettings, EpochBatches, map_objective, model_inputs, used_length
from birthgpt.data.corpus import load_corpus
from birthgpt.data.objectives import IGNORE, SpanCorruption
from birthgpt.data.synthetic import WIKI, write_synthetic_corpus
from birthgpt.data.tokenizers import TokenizerSettings
from birthgpt.model import BirthGPTForCausalLM
from birthgpt.settings import make_settings
from birthgpt.training.accelerators import build_accelerator
from birthgpt.training.callbacks import TrainerCallback
from birthgpt.training.model_group import ModelGroup, ReplicaSpec
from birthgpt.training.trainer import Trainer, TrainingSettings
from birthgpt.utils.environment import environment_info
from birthgpt.utils.files import save_json
from birthgpt.utils.tables import text_table

BLOCK = 128
BATCH = 32
SHAPE = make_settings(
    ModelSettings,
    hidden_size=192,
    num_hidden_layers=3,
    num_attention_heads=6,
    position_embedding_type="rotary",
    norm_type="rmsnorm",
    hidden_act="relu2",
    attention_bias=False,
    mlp_bias=False,
    qk_norm=True,
    hidden_dropout=0.0,
    attention_dropout=0.0,
)
LEARNING_RATE = 1e-3


class Task:
    """The corpus, its tokenizer and one epoch of examples."""

    def __init__(self, folder: Path):
        write_synthetic_corpus(folder, people=1000, held_out=200, biographies_per_person=5)
        self.corpus = load_corpus(str(folder / WIKI))
        texts = (row["text"] for row in self.corpus)
        self.tokenizer = build_tokenizer(TokenizerSettings(tokenizer_type="character"), texts, BLOCK)
        self.objective = SpanCorruption(self.tokenizer, BLOCK)
        self.examples = map_objective(self.corpus, self.objective, seed=0, epoch=0)

    def batches(self) -> EpochBatches:
        """The examples in batches of similar length."""
        settings = BatchSettings(tokens_per_batch=BATCH * BLOCK)
        return EpochBatches(self.corpus, self.objective, self.tokenizer.pad_token_id, settings, seed=0)

    def model(self) -> BirthGPTForCausalLM:
        """A new model of this package."""
        return build_model(SHAPE, self.tokenizer, BLOCK)


class Clock:
    """Tokens and targets per second after the warm-up."""

    def __init__(self, warm_up: int):
        self.warm_up, self.steps, self.tokens, self.targets = warm_up, 0, 0, 0

    def tick(self, tokens: int, targets: int) -> None:
        """Count an update."""
        self.steps += 1
        self.now = time.perf_counter()
        if self.steps <= self.warm_up:
            self.started = self.now
            return
        self.tokens += tokens
        self.targets += targets

    def speeds(self) -> dict[str, float]:
        """The measured speeds."""
        seconds = self.now - self.started
        return {"tokens_per_second": self.tokens / seconds, "targets_per_second": self.targets / seconds}


class ClockCallback(TrainerCallback):
    """Tells a clock about every update of this package's trainer."""

    def __init__(self, clock: Clock):
        self.clock, self.tokens, self.targets = clock, 0, 0

    def on_step_end(self, trainer: Trainer) -> None:
        state = trainer.state
        self.clock.tick(state.tokens - self.tokens, state.targets - self.targets)
        self.tokens, self.targets = state.tokens, state.targets


def this_engine(task: Task, steps: int, clock: Clock, folder: Path, torch_compile: bool = False) -> None:
    """Train for `steps` updates with the trainer of this package."""
    settings = make_settings(
        TrainingSettings,
        max_train_steps=steps,
        tokens_per_batch=BATCH * BLOCK,
        learning_rate=LEARNING_RATE,
        weight_decay=0.1,
        torch_compile=torch_compile,
        output_dir=str(folder),
        save_steps=0,
    )
    accelerator = build_accelerator(settings)
    spec = ReplicaSpec(folder, settings.run.seed, LEARNING_RATE)
    models = ModelGroup(spec, task.model(), settings.optimizer, accelerator, torch_compile)
    Trainer(models, task.batches(), accelerator, settings, [ClockCallback(clock)]).train()


def transformers_trainer(task: Task, steps: int, clock: Clock, folder: Path) -> None:
    """The same with `transformers.Trainer`: GPT-2 of the same shape, with dynamic padding."""
    config = GPT2Config(
        vocab_size=len(task.tokenizer),
        n_positions=BLOCK,
        n_embd=SHAPE.hidden_size,
        n_layer=SHAPE.num_hidden_layers,
        n_head=SHAPE.num_attention_heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=None,
    )
    # GPT-2 shifts labels by itself, so they are given unshifted and without the pads
    rows = [row["input_ids"][: used_length(row["shift_labels"]) + 1] for row in task.examples]
    examples = [{"input_ids": row, "labels": row} for row in rows]
    pad = DataCollatorForSeq2Seq(task.tokenizer, label_pad_token_id=IGNORE)

    class TimedHuggingFaceTrainer(transformers.Trainer):
        def training_step(self, model, inputs, *arguments, **settings):
            tokens, targets = inputs["input_ids"].numel(), int((inputs["labels"][:, 1:] != IGNORE).sum())
            loss = super().training_step(model, inputs, *arguments, **settings)
            clock.tick(tokens, targets)
            return loss

    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=BATCH,
        learning_rate=LEARNING_RATE,
        weight_decay=0.1,
        lr_scheduler_type="linear",
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        logging_steps=50,
    )
    TimedHuggingFaceTrainer(GPT2LMHeadModel(config), arguments, train_dataset=examples, data_collator=pad).train()


def plain_loop(task: Task, steps: int, clock: Clock, folder: Path) -> None:
    """The same with a plain loop: every example is padded to the block, and every token has logits."""
    rows = task.examples.with_format("torch")
    loader = DataLoader(rows, batch_size=BATCH, shuffle=True)
    model = task.model().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.1)
    while clock.steps < steps:
        for batch in loader:
            inputs, labels = batch["input_ids"][:, : BLOCK - 1], batch["shift_labels"][:, : BLOCK - 1]
            logits = model(input_ids=inputs, use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            loss.item()
            clock.tick(inputs.numel(), int((labels != IGNORE).sum()))
            if clock.steps == steps:
                break


ENGINES: dict[str, Callable] = {
    "birthgpt": this_engine,
    "birthgpt, compiled": partial(this_engine, torch_compile=True),
    "transformers.Trainer, GPT-2": transformers_trainer,
    "plain loop": plain_loop,
}


def matrix_peak() -> float:
    """FLOP/s of the best of ten float32 products of 4096 × 4096 matrices."""
    left, right = torch.randn(2, 4096, 4096)
    seconds = []
    for _ in range(10):
        started = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - started)
    return 2 * 4096**3 / min(seconds)


def forward_backward(task: Task, mixed_precision: bool, compiled: bool) -> float:
    """FLOP/s of the model's forward and backward on a batch of 4,096 tokens; matrix products are counted."""
    batches = task.batches()
    model, batch = task.model().train(), batches[len(batches) // 2]

    def step(called):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed_precision):
            loss = called(**model_inputs(batch), logits_to_keep=batch["shift_labels"] != IGNORE, use_cache=False).loss
        loss.backward()

    with FlopCounterMode(display=False) as counter:
        step(model)
    called = torch.compile(model, dynamic=True) if compiled else model
    step(called)
    seconds = []
    for _ in range(10):
        started = time.perf_counter()
        step(called)
        seconds.append(time.perf_counter() - started)
    return counter.get_total_flops() / min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60, help="updates that are measured")
    parser.add_argument("--warm_up", type=int, default=10, help="updates before them")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each engine, in turns")
    parser.add_argument("--output_file", type=Path, help="also write the metrics here")
    arguments = parser.parse_args()
    # all of them run on the CPU, also on a machine with a GPU
    os.environ["ACCELERATE_USE_CPU"] = "true"
    runs = {name: [] for name in ENGINES}
    with tempfile.TemporaryDirectory() as scratch:
        task = Task(Path(scratch, "people"))
        for _ in range(arguments.rounds):
            for number, (name, engine) in enumerate(ENGINES.items()):
                clock = Clock(arguments.warm_up)
                engine(task, arguments.warm_up + arguments.steps, clock, Path(scratch, f"run-{number}"))
                runs[name].append(clock.speeds())
        peak = matrix_peak()
        shares = {
            f"{'bfloat16' if half else 'float32'}{', compiled' if compiled else ''}": forward_backward(
                task, half, compiled
            )
            / peak
            for half in (False, True)
            for compiled in (False, True)
        }
    rows = [
        {"name": name, **{key: median(run[key] for run in found) for key in found[0]}} for name, found in runs.items()
    ]
    print(text_table(rows, ["name", "tokens_per_second", "targets_per_second"]))
    ours, peers = rows[:2], rows[2:]
    ratios = {
        engine["name"]: {
            key: engine[key] / max(peer[key] for peer in peers) for key in ("tokens_per_second", "targets_per_second")
        }
        for engine in ours
    }
    for name, found in ratios.items():
        print(
            f"{name}, times the best of the others: " + ", ".join(f"{key} {ratio:.2f}" for key, ratio in found.items())
        )
    print(f"float32 peak {peak / 1e9:.0f} GFLOP/s; forward and backward: ", end="")
    print(", ".join(f"{share:.0%} in {name}" for name, share in shares.items()))
    if arguments.output_file:
        metrics = {"engines": rows, "ratios": ratios, "float32_peak": peak, "share_of_peak": shares}
        save_json(arguments.output_file, {**metrics, **environment_info()})


if __name__ == "__main__":
    main()
