"""The report of a dry run: what a run would do."""

import itertools
import time
from collections.abc import Mapping

from accelerate import Accelerator
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from birthgpt.data.batching import PlannedBatches, TensorBatch, count_tokens, model_inputs
from birthgpt.data.objectives import IGNORE
from birthgpt.data.preview import show_example
from birthgpt.data.streaming import StreamedBatches
from birthgpt.training.model_group import training_flops
from birthgpt.training.state import BudgetSettings

BATCHES_MEASURED = 20
EXAMPLES_SHOWN = 3


def describe_run(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    batches: PlannedBatches | StreamedBatches,
    budget: BudgetSettings,
    accelerator: Accelerator,
    models: int = 1,
    facts: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Print parameters, FLOPs, predicted time, ratios of pads and targets, and three examples; return the metrics.

    Args:
        models: number of models trained at once; tokens and FLOPs are per model, the time is for all of them.
        facts: what else is known about the data, to print with the metrics.

    Raises:
        ValueError: there is no example.
    """
    measured = list(itertools.islice(iterate(batches), BATCHES_MEASURED))
    if not measured:
        raise ValueError("no line has an example for this objective")
    tokens = sum(map(count_tokens, measured)) / len(measured)
    ids = [batch[name] for batch in measured for name in ("input_ids", "decoder_input_ids") if name in batch]
    pads = sum(int((each == tokenizer.pad_token_id).sum()) for each in ids)
    targets = sum(int((batch["shift_labels"] != IGNORE).sum()) for batch in measured)
    model = model.to(accelerator.device).train()
    # the first call is slower than the next calls
    _seconds(model, measured[0], accelerator)
    seconds = sum(_seconds(model, batch, accelerator) for batch in measured[:3]) / sum(map(count_tokens, measured[:3]))
    run_tokens = _run_tokens(model, batches, budget, tokens)
    metrics = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "tokens": run_tokens,
        "flops": training_flops(model, run_tokens),
        "predicted_minutes": run_tokens * seconds * models / accelerator.num_processes / 60,
        "padding_ratio": pads / (tokens * len(measured)),
        "target_ratio": targets / (tokens * len(measured)),
        **(facts or {}),
    }
    if accelerator.is_main_process:
        _print(metrics, tokenizer, measured)
    return metrics


def iterate(batches: PlannedBatches | StreamedBatches):
    """The batches of an epoch, one after another."""
    return iter(batches) if isinstance(batches, StreamedBatches) else (batches[i] for i in range(len(batches)))


def _print(metrics: dict[str, float], tokenizer: PreTrainedTokenizerBase, measured: list[TensorBatch]) -> None:
    for name, value in metrics.items():
        print(f"{name:18} {value:,.3g}" if value < 1000 else f"{name:18} {value:,.0f}")
    examples = (
        {key: value[row] for key, value in batch.items()}
        for batch in measured
        for row in range(len(batch["input_ids"]))
    )
    for number, example in enumerate(itertools.islice(examples, EXAMPLES_SHOWN), start=1):
        print(f"\nexample {number}\n{show_example(tokenizer, example)}")


def _run_tokens(model: PreTrainedModel, batches, budget: BudgetSettings, tokens_per_batch: float) -> float:
    if budget.max_train_flops is not None:
        return budget.max_train_flops / training_flops(model, 1)
    if budget.max_train_steps is not None:
        return budget.max_train_steps * tokens_per_batch * batches.num_micro_batches
    assert budget.num_train_epochs is not None
    return budget.num_train_epochs * len(batches) * tokens_per_batch


def _seconds(model: PreTrainedModel, batch: TensorBatch, accelerator: Accelerator) -> float:
    """The seconds of forward and backward of one batch; the weights are unchanged."""
    batch = {name: values.to(accelerator.device) for name, values in batch.items()}
    started = time.perf_counter()
    with accelerator.autocast():
        keep = batch["shift_labels"] != IGNORE
        loss = model(**model_inputs(batch), logits_to_keep=keep, use_cache=False).loss
    loss.backward()
    # item() waits for the device
    loss.item()
    model.zero_grad()
    return time.perf_counter() - started
