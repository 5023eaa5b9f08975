"""Weights and optimizer states of sharded models as files, by `torch.distributed.checkpoint`.

The folder `shards` of a checkpoint has a safetensors file of each process, with its parts of all tensors and where they
begin in the whole tensors. So any number of processes can read them, each only what it needs.
"""

import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.storage import WriteResult
from transformers import AutoConfig, GenerationConfig, PreTrainedModel
from transformers.utils import GENERATION_CONFIG_NAME

from birthgpt.training.manifest import Entries
from birthgpt.training.sharding import new_model
from birthgpt.utils.errors import naming_damage
from birthgpt.utils.files import sha256_of

SHARDS = "shards"
WEIGHTS, OPTIMIZER = "model/", "optimizer/"
"""How the names of weights, and of states of optimizers, begin in the shards."""

Optimizers = list[torch.optim.Optimizer]
Value = TypeVar("Value")


class ShardWriter(HuggingFaceStorageWriter):
    """Writes and hashes the shards of this process; then the main process calls `finish_checkpoint` with all hashes."""

    def __init__(self, folder: Path, finish_checkpoint: Callable[[Entries], None]):
        super().__init__(path=str(folder / SHARDS), save_distributed=True)
        self.folder, self.finish_checkpoint = folder, finish_checkpoint

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> torch.futures.Future[list[WriteResult]]:
        """Write the file of this process; the result is its name, size and SHA-256. Nothing to write gives no file."""
        written = super().write_data(plan, planner).value()
        names = sorted({result.storage_data.relative_path for result in written})
        hashed: torch.futures.Future[list[WriteResult]] = torch.futures.Future()
        hashed.set_result([_hashed(self.folder / SHARDS / name) for name in names])
        return hashed

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Finish the checkpoint; the main process calls this when all processes have written."""
        entries = {}
        for file in (file for of_process in results for file in of_process):
            name = f"{SHARDS}/{file.index.fqn}"
            if not (self.folder / name).is_file():
                raise ValueError(f"{name} is not on the disk of the main process: all machines must share output_dir")
            entries[name] = {"bytes": file.size_in_bytes, "sha256": file.storage_data}
        self.finish_checkpoint(entries)


def has_shards(checkpoint: Path) -> bool:
    """Whether a checkpoint was written in shards."""
    return (checkpoint / SHARDS).is_dir()


def sharded_state(model: nn.Module, optimizers: Optimizers) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    """Weights and states of optimizers, which are not copied, and the `param_groups`. All processes call this.

    Optimizers without states get them.
    """
    # PyTorch declares a wider type
    states: Any = get_optimizer_state_dict(model, optimizers)
    tensors = _weights(model) | {
        f"{OPTIMIZER}{parameter}/{key}": torch.as_tensor(value)
        for parameter, entries in states["state"].items()
        for key, value in entries.items()
    }
    return tensors, states["param_groups"]


def save_shards(
    tensors: Mapping[str, torch.Tensor],
    folder: Path,
    group: dist.ProcessGroup | None,
    finish_checkpoint: Callable[[Entries], None],
) -> Future:
    """Copy the tensors to the host, and write them while the program goes on. All processes call this.

    Args:
        folder: the folder of the checkpoint.
        group: a group for saving alone, over gloo: training exchanges at the same time.
        finish_checkpoint: called by the main process at the end, with the entries of all shards for the manifest.

    Returns:
        When it is done; `failures_of` tells what its CheckpointException means. It is the same on every process.
    """
    writer = ShardWriter(folder, finish_checkpoint)
    found = dcp.async_save(dict(tensors), storage_writer=writer, process_group=group)
    assert isinstance(found, Future), "the default copies to the host before it returns"
    return found


def load_shards(checkpoint: Path, model: nn.Module, optimizers: Optimizers, param_groups: list[dict[str, Any]]) -> None:
    """Load weights and states of optimizers, for any number of processes; all of them call this.

    Raises:
        ValueError: the shards cannot be read.
    """
    tensors, _ = sharded_state(model, optimizers)
    saved = _shapes(checkpoint)
    # a parameter that got no gradient has no state
    tensors = {name: tensor for name, tensor in tensors.items() if name in saved}
    _read(checkpoint, tensors)
    options = StateDictOptions(strict=False)
    set_model_state_dict(model, dict(_beginning_with(WEIGHTS, tensors)), options=options)
    states = states_by_parameter(_beginning_with(OPTIMIZER, tensors))
    loaded: Any = {"state": states, "param_groups": param_groups}
    set_optimizer_state_dict(model, optimizers, loaded, options=options)


def model_of_shards(checkpoint: Path) -> PreTrainedModel:
    """The whole model of a checkpoint in shards, read by this process alone.

    Raises:
        ValueError: the shards cannot be read, or do not fit `config.json`.
    """
    with naming_damage(checkpoint / "config.json"):
        model = new_model(AutoConfig.from_pretrained(checkpoint, trust_remote_code=False))
    if (checkpoint / GENERATION_CONFIG_NAME).is_file():
        with naming_damage(checkpoint / GENERATION_CONFIG_NAME):
            model.generation_config = GenerationConfig.from_pretrained(checkpoint)
    # they are filled in place
    _read(checkpoint, _weights(model), no_dist=True)
    return model.eval()


def shapes_of_weights(checkpoint: Path) -> dict[str, torch.Size]:
    """The shape of each whole weight in the shards, by its name in the model."""
    return _beginning_with(WEIGHTS, _shapes(checkpoint))


def states_by_parameter(tensors: Mapping[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """`parameter/key` → {parameter: {key: tensor}}, as optimizers load it."""
    states: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        parameter, key = name.rsplit("/", 1)
        states.setdefault(parameter, {})[key] = tensor
    return states


def failures_of(error: CheckpointException) -> str:
    """What happened in which process, as a line."""
    return "; ".join(f"process {process}: {fault}" for process, (fault, _) in sorted(error.failures.items()))


def is_fault_of_disk(error: CheckpointException) -> bool:
    """Whether a user can correct all failures, such as a full disk."""
    return all(isinstance(fault, (OSError, ValueError)) for fault, _ in error.failures.values())


def _weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """The weights by their names in the shards. A tied weight has one name."""
    once = {name for name, _ in model.named_parameters()}
    again = {name for name, _ in model.named_parameters(remove_duplicate=False)} - once
    weights = get_model_state_dict(model)
    # PyTorch declares a wider type: a state dict may also contain other values than tensors
    return {f"{WEIGHTS}{name}": weight for name, weight in weights.items() if name not in again}  # type: ignore[misc]


def _shapes(checkpoint: Path) -> dict[str, torch.Size]:
    metadata = HuggingFaceStorageReader(str(checkpoint / SHARDS)).read_metadata()
    # PyTorch declares a wider type: other checkpoints also contain other values than tensors
    return {name: tensor.size for name, tensor in metadata.state_dict_metadata.items()}  # type: ignore[union-attr]


def _beginning_with(prefix: str, named: Mapping[str, Value]) -> dict[str, Value]:
    return {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}


def _read(checkpoint: Path, tensors: dict[str, torch.Tensor], no_dist: bool = False) -> None:
    """Fill tensors with what the shards contain."""
    reader = HuggingFaceStorageReader(str(checkpoint / SHARDS))
    try:
        with warnings.catch_warnings():
            # PyTorch warns that one process alone reads
            warnings.simplefilter("ignore", UserWarning)
            dcp.load(tensors, storage_reader=reader, no_dist=no_dist)
    except CheckpointException as error:
        raise ValueError(f"{checkpoint / SHARDS} cannot be read: {failures_of(error)}") from error


def _hashed(file: Path) -> WriteResult:
    return WriteResult(MetadataIndex(file.name), file.stat().st_size, sha256_of(file))
