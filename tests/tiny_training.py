"""A training run on a scale of a second, in this process."""

import torch
from datasets import Dataset
from helpers import LINES, NAMES, tiny_config

from birthgpt import BirthGPTForCausalLM
from birthgpt.data.batching import EpochBatches
from birthgpt.data.objectives import NameFirst
from birthgpt.training.arguments import OptimizationArguments, RunArguments
from birthgpt.training.checkpoints import checkpoint_to_resume
from birthgpt.training.trainer import Trainer, build_accelerator

PERFORMER = {"attention_type": "performer", "performer_features": 16, "performer_redraw_steps": 4}
OPTIMIZATION = OptimizationArguments(
    max_train_steps=12, tokens_per_batch=400, optimizer="muon", learning_rate=5e-3, warmup_steps=2
)


def tiny_batches(bpe, *, seed: int = 0, parts: int = 1, epoch: int = 0) -> EpochBatches:
    """What `train` trains on in an epoch."""
    lines = Dataset.from_dict({"line_id": list(range(16)), "text": LINES * 4, "name": NAMES * 4})
    objective = NameFirst(bpe, 128)
    return EpochBatches(lines, objective, bpe.pad_token_id, seed=seed, tokens_per_batch=400, parts=parts, epoch=epoch)


def train(
    tmp_path,
    bpe,
    *,
    optimization=OPTIMIZATION,
    dropout=0.1,
    resume=False,
    evaluate=None,
    metric_for_best_model=None,
    architecture=None,
    **settings,
):
    folder = tmp_path / "run"
    folder.mkdir(exist_ok=True, parents=True)
    run = RunArguments(output_dir=str(folder), logging_steps=1, **settings)
    accelerator = build_accelerator(optimization, run)
    parts = accelerator.num_processes * optimization.gradient_accumulation_steps
    batches = tiny_batches(bpe, seed=run.seed, parts=parts)
    torch.manual_seed(run.seed)
    dropouts = {"hidden_dropout": dropout, "attention_dropout": dropout}
    config = tiny_config(vocab_size=len(bpe), **dropouts, **(architecture or {}))
    model = BirthGPTForCausalLM(config)
    trainer = Trainer(
        model,
        bpe,
        batches,
        optimization,
        run,
        accelerator,
        evaluate,
        4 if evaluate else 0,
        metric_for_best_model=metric_for_best_model,
    )
    summary = trainer.train(checkpoint_to_resume(str(folder), "latest") if resume else None)
    return summary, model


def losses(summary) -> list[float]:
    return [entry["loss"] for entry in summary.history if "loss" in entry]
