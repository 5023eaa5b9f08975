"""What a run would do, without doing it."""

import itertools
import time

from accelerate import Accelerator
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from birthgpt.data.batching import EpochBatches, StreamedBatches, TensorBatch, model_inputs
from birthgpt.data.objectives import IGNORE
from birthgpt.data.preview import show_example
from birthgpt.training.arguments import OptimizationArguments
from birthgpt.training.trainer import training_flops

BATCHES_LOOKED_AT = 20
EXAMPLES_SHOWN = 3


def describe_run(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    batches: EpochBatches | StreamedBatches,
    optimization: OptimizationArguments,
    accelerator: Accelerator,
    models: int = 1,
) -> dict[str, float]:
    """Print parameters, FLOPs, predicted time, padding share and three examples; returns the metrics.

    Args:
        models: trained at once; tokens and FLOPs are of each alone, the time is of all.

    Raises:
        ValueError: not one example.
    """
    looked_at = list(itertools.islice(iter_batches(batches), BATCHES_LOOKED_AT))
    if not looked_at:
        raise ValueError("no line gives an example for this objective")
    tokens = sum(batch["input_ids"].numel() for batch in looked_at) / len(looked_at)
    pads = sum(int((batch["input_ids"] == tokenizer.pad_token_id).sum()) for batch in looked_at)
    targets = sum(int((batch["shift_labels"] != IGNORE).sum()) for batch in looked_at)
    model = model.to(accelerator.device).train()
    # the first call is slower than those that follow
    _seconds(model, looked_at[0], accelerator)
    seconds = sum(_seconds(model, batch, accelerator) for batch in looked_at[:3]) / sum(
        batch["input_ids"].numel() for batch in looked_at[:3]
    )
    run_tokens = _run_tokens(model, batches, optimization, tokens)
    metrics = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "tokens": run_tokens,
        "flops": training_flops(model, run_tokens),
        "predicted_minutes": run_tokens * seconds * models / accelerator.num_processes / 60,
        "padding_ratio": pads / (tokens * len(looked_at)),
        "target_ratio": targets / (tokens * len(looked_at)),
    }
    if not accelerator.is_main_process:
        return metrics
    for name, value in metrics.items():
        print(f"{name:18} {value:,.3g}" if value < 1000 else f"{name:18} {value:,.0f}")
    examples = (
        {key: value[row] for key, value in batch.items()}
        for batch in looked_at
        for row in range(len(batch["input_ids"]))
    )
    for number, example in enumerate(itertools.islice(examples, EXAMPLES_SHOWN), start=1):
        print(f"\nexample {number}\n{show_example(tokenizer, example)}")
    return metrics


def iter_batches(batches: EpochBatches | StreamedBatches):
    """The batches of an epoch, one after another."""
    return iter(batches) if isinstance(batches, StreamedBatches) else (batches[i] for i in range(len(batches)))


def _run_tokens(model, batches, optimization: OptimizationArguments, tokens_per_batch: float) -> float:
    if optimization.max_train_flops is not None:
        return optimization.max_train_flops / training_flops(model, 1)
    if optimization.max_train_steps is not None:
        return optimization.max_train_steps * tokens_per_batch * batches.parts
    return optimization.num_train_epochs * len(batches) * tokens_per_batch


def _seconds(model: PreTrainedModel, batch: TensorBatch, accelerator: Accelerator) -> float:
    """Forward and backward of one batch; the weights stay as they are."""
    batch = {name: values.to(accelerator.device) for name, values in batch.items()}
    started = time.perf_counter()
    with accelerator.autocast():
        keep = batch["shift_labels"] != IGNORE
        loss = model(**model_inputs(batch), logits_to_keep=keep, use_cache=False).loss
    loss.backward()
    # reading it waits for the device
    loss.item()
    model.zero_grad()
    return time.perf_counter() - started
