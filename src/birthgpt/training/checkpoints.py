"""Checkpoints: folders that `from_pretrained` loads, written completely or not at all.

`training_state/` contains, as safetensors and JSON, what a run needs to continue as if it had never stopped. The model
can be used without it. Its manifest lists every file of the checkpoint with its size and SHA-256, so that a damaged
checkpoint is found before it is read. The weights of a sharded model are in `shards/` (`distributed_checkpoints`).
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from safetensors.torch import load_model as load_torch_module
from safetensors.torch import save_model as save_torch_module
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from birthgpt.settings import checked, setting
from birthgpt.training.distributed_checkpoints import has_shards, load_shards, shapes_of_weights, states_by_parameter
from birthgpt.training.manifest import (
    RUN,
    TRAINING_STATE,
    UNFINISHED,
    finish_checkpoint,
    list_checkpoints,
    write_manifest,
)
from birthgpt.training.model_group import ModelGroup, Replica
from birthgpt.training.sharding import (
    full_optimizer_state,
    load_full_optimizer_state,
    load_full_weights,
    unsharded,
)
from birthgpt.training.state import TrainerState
from birthgpt.utils.errors import naming_damage
from birthgpt.utils.files import read_json
from birthgpt.utils.folders import move_files, record_files


@checked
@dataclass(kw_only=True)
class CheckpointSettings:
    """What a run saves during training."""

    save_steps: int = setting(
        500, "updates between two checkpoints; 0: only the finished model", min=0, free_on_resume=True
    )
    save_total_limit: int = setting(2, "checkpoints to keep", min=1, free_on_resume=True)


def save_model(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write a model and its tokenizer into a run folder. `config.json` is last, because loading needs it.

    Raises:
        ValueError: it could not be written, for example on a full disk. Checkpoints are unchanged.
    """
    temporary = folder / f"{UNFINISHED}model"
    with or_what_is_left(f"the finished model in {folder}", temporary):
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        write_manifest(temporary)
        record_files(folder, RUN, [file.name for file in temporary.iterdir()])
        move_files(temporary, folder, last="config.json")


def save_checkpoint(
    replica: Replica, tokenizer: PreTrainedTokenizerBase, state: TrainerState, *, writes: bool = True
) -> Path:
    """Write `checkpoint-STEP` under a temporary name and rename it. All processes call this; one of them writes.

    Raises:
        ValueError: it could not be written, for example on a full disk. Older files are unchanged.
    """
    folder = replica.spec.folder
    target = folder / f"checkpoint-{state.step}"
    model = unsharded(replica.model)
    optimizer_state = full_optimizer_state(replica.model, replica.plain_optimizers)
    if not writes:
        return target
    temporary = folder / f"{UNFINISHED}{target.name}"
    with or_what_is_left(str(target), temporary):
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        save_training_state(temporary / TRAINING_STATE, replica, optimizer_state["param_groups"], state)
        tensors = {
            f"{name}/{key}": torch.as_tensor(value).contiguous()
            for name, entries in optimizer_state["state"].items()
            for key, value in entries.items()
        }
        save_file(tensors, temporary / TRAINING_STATE / "optimizer.safetensors")
        finish_checkpoint(temporary)
    return target


@contextmanager
def or_what_is_left(what: str, temporary: Path) -> Iterator[None]:
    """Context that writes into a temporary folder; an error removes this folder, and names the last checkpoint."""
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        yield
    except (OSError, SafetensorError, ValueError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise not_written(what, str(error), temporary.parent) from error


def not_written(what: str, reason: str, run_folder: Path) -> ValueError:
    """The error about a checkpoint or model that could not be written; it names the last checkpoint."""
    written = list_checkpoints(run_folder)
    return ValueError(
        f"{what} could not be written ({reason}): free some space and pass --resume_from_checkpoint latest; "
        + (f"the last checkpoint is {written[-1]}" if written else "there is no checkpoint yet")
    )


def load_checkpoint(checkpoint: Path, models: ModelGroup, *, expected: TrainerState) -> TrainerState:
    """Restore all models of a run, and return its state.

    Args:
        checkpoint: the checkpoint of the first model; the others have one with the same name in their folders.
        expected: a state with the number of models, the micro-batches and the precision of this run.

    Raises:
        ValueError: the checkpoint has another model, optimizer or precision; another number of models, processes or
            accumulation steps; or an average of the weights, but this run has none, or the reverse.
    """
    single = len(models) == 1
    folders = [checkpoint if single else replica.spec.folder / checkpoint.name for replica in models.replicas]
    for folder, replica in zip(folders, models.replicas, strict=True):
        state = _load_state(folder, expected)
        _load_replica(folder, replica)
    return state


def save_training_state(
    folder: Path, replica: Replica, param_groups: list[dict[str, Any]], state: TrainerState
) -> None:
    """Write everything of the training state but the tensors of the optimizers."""
    folder.mkdir()
    groups = {"optimizers": _optimizer_names(replica), "param_groups": param_groups}
    (folder / "optimizer.json").write_text(json.dumps(groups, indent=1))
    if replica.best_weights is not None:
        save_file(replica.best_weights, folder / "best_weights.safetensors")
    if replica.average is not None:
        save_torch_module(replica.average, str(folder / "average.safetensors"))
    (folder / "trainer_state.json").write_text(json.dumps(asdict(state), indent=1))


def _load_state(checkpoint: Path, expected: TrainerState) -> TrainerState:
    file = checkpoint / TRAINING_STATE / "trainer_state.json"
    if not file.is_file():
        raise ValueError(f"{checkpoint} was written by an earlier version of birthgpt: resume it with that version")
    with naming_damage(file):
        state = TrainerState(**read_json(file))
    if len(state.loss_sums) != len(expected.loss_sums):
        raise ValueError(f"{checkpoint} was written by a run of {len(state.loss_sums)} models: train the same models")
    if state.num_micro_batches != expected.num_micro_batches:
        raise ValueError(
            f"{checkpoint} was written by a run of {state.num_micro_batches} processes × gradient_accumulation_steps, "
            f"this run has {expected.num_micro_batches}: use the same number"
        )
    if state.mixed_precision not in (None, expected.mixed_precision):
        raise ValueError(
            f"{checkpoint} was written with mixed_precision={state.mixed_precision}, this run has "
            f"{expected.mixed_precision}: use the same"
        )
    state.mixed_precision = expected.mixed_precision
    return state


def _load_replica(checkpoint: Path, replica: Replica) -> None:
    folder = checkpoint / TRAINING_STATE
    in_shards = has_shards(checkpoint)
    weights = {} if in_shards else load_file(checkpoint / "model.safetensors")
    shapes = shapes_of_weights(checkpoint) if in_shards else {name: tensor.shape for name, tensor in weights.items()}
    _check_same_model(checkpoint, shapes, replica.model)
    groups = read_json(folder / "optimizer.json")
    if groups.get("optimizers") != _optimizer_names(replica):
        raise ValueError(f"{checkpoint} was written with another optimizer: use the settings of that run")
    if (folder / "average.safetensors").is_file() != (replica.average is not None):
        negation = "" if replica.average is None else "out"
        raise ValueError(f"{checkpoint} was written with{negation} ema_decay: use the setting of that run")
    if in_shards:
        load_shards(checkpoint, replica.model, replica.plain_optimizers, groups["param_groups"])
    else:
        load_full_weights(replica.model, weights)
        states = states_by_parameter(load_file(folder / "optimizer.safetensors"))
        optimizer_state = {"state": states, "param_groups": groups["param_groups"]}
        load_full_optimizer_state(replica.model, replica.plain_optimizers, optimizer_state)
    if replica.average is not None:
        load_torch_module(replica.average, folder / "average.safetensors")
    best = folder / "best_weights.safetensors"
    replica.best_weights = load_file(best) if best.is_file() else None


def _check_same_model(checkpoint: Path, shapes: dict[str, torch.Size], model: PreTrainedModel) -> None:
    own = model.state_dict()
    # a tied head is stored once
    missing = set(own) - set(shapes) - set(model._tied_weights_keys or {})
    different = [name for name, shape in shapes.items() if name not in own or own[name].shape != shape]
    for name in (*sorted(missing), *different):
        raise ValueError(f"{checkpoint} contains another model: {name} is missing or has another shape")


def _optimizer_names(replica: Replica) -> list[str]:
    return [type(optimizer).__name__ for optimizer in replica.plain_optimizers]
