"""Checkpoints: folders that `from_pretrained` loads, written whole or not at all.

Beside the model lies `training_state/`, as safetensors and JSON: what a run needs to go on as if it had
never stopped. It is never needed to use the model. Its manifest lists every file of the checkpoint with its
size and SHA-256, so that a damaged one is recognised before anything is read from it.
"""

import json
import logging
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from safetensors.torch import load_model as load_torch_module
from safetensors.torch import save_model as save_torch_module
from torch.optim.swa_utils import AveragedModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from birthgpt.training.sharding import scatter, scatter_weights
from birthgpt.utils.files import sha256_of

logger = logging.getLogger(__name__)

TRAINING_STATE = "training_state"
MANIFEST = "manifest.json"
SETTINGS = "settings.json"
UNFINISHED = ".unfinished-"


@dataclass
class Progress:
    """How far a run has come, and what it has seen of itself so far."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    tokens: int = 0
    targets: int = 0
    seconds: float = 0.0
    # processes × accumulation steps, by which the epoch was planned
    parts: int = 1
    mixed_precision: str | None = None
    # of each model, over the updates since the last report
    loss_sums: list[float] = field(default_factory=list)
    loss_steps: int = 0
    best_score: float | None = None
    evaluated_at: int | None = None
    history: list[dict] = field(default_factory=list)


def save_model(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write a model and its tokenizer into an existing run folder; `config.json`, which loading needs, last."""
    beside = folder / f"{UNFINISHED}model"
    shutil.rmtree(beside, ignore_errors=True)
    model.save_pretrained(beside)
    tokenizer.save_pretrained(beside)
    (folder / "config.json").unlink(missing_ok=True)
    for file in sorted(beside.iterdir(), key=lambda file: file.name == "config.json"):
        os.replace(file, folder / file.name)
    beside.rmdir()


def save_checkpoint(
    run_folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    optimizers: list[dict],
    progress: Progress,
    best_weights: dict[str, torch.Tensor] | None = None,
    average: AveragedModel | None = None,
) -> Path:
    """Write `checkpoint-STEP` beside its place and rename it there; of the optimisers, their `state_dict`.

    Raises:
        ValueError: it could not be written, as on a full disk; what was there before is as it was.
    """
    target = run_folder / f"checkpoint-{progress.step}"
    beside = run_folder / f"{UNFINISHED}{target.name}"
    shutil.rmtree(beside, ignore_errors=True)
    try:
        model.save_pretrained(beside)
        tokenizer.save_pretrained(beside)
        state = beside / TRAINING_STATE
        state.mkdir()
        for index, optimizer in enumerate(optimizers):
            _save_optimizer(optimizer, state / f"optimizer_{index}")
        if best_weights is not None:
            save_file(best_weights, state / "best_weights.safetensors")
        if average is not None:
            save_torch_module(average, state / "average.safetensors")
        (state / "progress.json").write_text(json.dumps(asdict(progress), indent=1))
        _write_manifest(beside)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(beside, ignore_errors=True)
        good = list_checkpoints(run_folder)
        raise ValueError(
            f"{target} could not be written ({error}): make room and pass --resume_from_checkpoint latest; "
            + (f"the last checkpoint is {good[-1]}" if good else "there is no checkpoint yet")
        ) from error
    if target.is_dir():
        _remove(target)
    os.replace(beside, target)
    return target


def prune_checkpoints(run_folder: Path, save_total_limit: int) -> None:
    """Remove the oldest checkpoints beyond the limit."""
    for old in list_checkpoints(run_folder)[:-save_total_limit]:
        _remove(old)


def load_checkpoint(
    checkpoint: Path,
    model: PreTrainedModel,
    optimizers: list[torch.optim.Optimizer],
    average: AveragedModel | None = None,
) -> tuple[Progress, dict[str, torch.Tensor] | None]:
    """Bring everything back to where `save_checkpoint` found it; how far that was, and the best weights.

    Raises:
        ValueError: a checkpoint of another model or optimiser, or of a run with or without an average of the weights.
    """
    state = checkpoint / TRAINING_STATE
    try:
        # strict=False: a tied head is stored once
        weights = scatter_weights(load_file(checkpoint / "model.safetensors"), model)
        missing, unexpected = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise ValueError(f"{checkpoint} holds another model than this run's: {error}") from None
    if unexpected or set(missing) - set(model._tied_weights_keys or {}):
        raise ValueError(f"{checkpoint} holds another model than this run's: {(missing + unexpected)[0]}")
    if len(list(state.glob("optimizer_*.json"))) != len(optimizers):
        raise ValueError(f"{checkpoint} was written with another optimizer than this run's: give the same settings")
    for index, optimizer in enumerate(optimizers):
        _load_optimizer(optimizer, state / f"optimizer_{index}")
    if (state / "average.safetensors").is_file() != (average is not None):
        raise ValueError(f"{checkpoint} was written with{'' if average is None else 'out'} ema_decay: give the same")
    if average is not None:
        load_torch_module(average, state / "average.safetensors")
    best = state / "best_weights.safetensors"
    best_weights = scatter_weights(load_file(best), model) if best.is_file() else None
    return Progress(**json.loads((state / "progress.json").read_text())), best_weights


def check_checkpoint(checkpoint: Path) -> None:
    """ValueError, with the file and what is wrong with it, unless the checkpoint is as it was written."""
    manifest = checkpoint / TRAINING_STATE / MANIFEST
    if not manifest.is_file():
        raise ValueError(f"{checkpoint} is no checkpoint of a run, or a damaged one: {manifest.name} is missing")
    try:
        files = json.loads(manifest.read_text())["files"]
        expected = {name: (entry["bytes"], entry["sha256"]) for name, entry in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{checkpoint} is damaged: {manifest.name} cannot be read") from None
    for name, (size, digest) in expected.items():
        file = checkpoint / name
        if not file.is_file():
            raise ValueError(f"{checkpoint} is damaged: {name} is missing")
        if file.stat().st_size != size:
            raise ValueError(f"{checkpoint} is damaged: {name} has {file.stat().st_size:,} bytes of {size:,}")
        if sha256_of(file) != digest:
            raise ValueError(f"{checkpoint} is damaged: {name} is not what was written (its SHA-256 differs)")


def list_checkpoints(run_folder: Path) -> list[Path]:
    """The checkpoints of a run by step, sound or not."""
    return sorted((path for path in run_folder.glob("checkpoint-*") if _step(path) >= 0 and path.is_dir()), key=_step)


def _step(checkpoint: Path) -> int:
    """The step in the name; −1 for a folder that is not named so."""
    number = checkpoint.name.removeprefix("checkpoint-")
    return int(number) if number.isdecimal() else -1


def checkpoint_to_resume(output_dir: str, resume_from_checkpoint: str | None) -> Path | None:
    """The checkpoint that `resume_from_checkpoint` means, found sound: a path, or the last sound one for `latest`.

    None is the beginning: also for `latest` in a run that was stopped before its first checkpoint.

    Raises:
        ValueError: a checkpoint that is damaged or none, one that the run in `output_dir` is beyond, or a run all of
            whose checkpoints are damaged.
    """
    if resume_from_checkpoint is None:
        return None
    if resume_from_checkpoint != "latest":
        checkpoint = Path(resume_from_checkpoint)
        check_checkpoint(checkpoint)
        later = [path for path in list_checkpoints(Path(output_dir)) if _step(path) > _step(checkpoint)]
        if later:
            raise ValueError(
                f"{output_dir} has gone on to {later[-1].name}: remove what is later than {checkpoint.name}"
            )
        return checkpoint
    found = latest_valid(([checkpoint] for checkpoint in reversed(list_checkpoints(Path(output_dir)))), output_dir)
    return found[0] if found is not None else None


def latest_valid(candidates: Iterable[Sequence[Path]], output_dir: str | Path) -> Sequence[Path] | None:
    """The first of some candidates, newest first, all of whose folders are sound; None where there is none at all.

    Raises ValueError, with what is wrong with each, where all of them are damaged.
    """
    faults = []
    for checkpoints in candidates:
        try:
            for checkpoint in checkpoints:
                check_checkpoint(checkpoint)
        except ValueError as fault:
            logger.warning("%s; an earlier checkpoint is taken", fault)
            faults.append(str(fault))
        else:
            return checkpoints
    if faults:
        raise ValueError(f"{output_dir} holds no sound checkpoint to resume from: " + "; ".join(faults))
    return None


def check_no_foreign_files(folder: Path, *, variants: Sequence[Path] = ()) -> None:
    """ValueError where a run that is to go on has no checkpoint, and the folder holds what no young run leaves."""
    known = ("logs", "checkpoint-", SETTINGS, UNFINISHED, *(path.name for path in variants))
    found = [path.name for path in sorted(folder.glob("*")) if not path.name.startswith(known)]
    if found:
        raise ValueError(f"{folder} holds {found[0]}, but no checkpoint to resume from")
    logger.warning("%s holds no checkpoint yet: the run starts from the beginning", folder)


def remove_unfinished(folder: Path) -> None:
    """Clear away what a run that was killed was writing."""
    for path in folder.glob(f"{UNFINISHED}*"):
        shutil.rmtree(path)


def check_run_folder(output_dir: str, *, overwrite: bool) -> None:
    """ValueError where a new run would mix with what the folder holds."""
    folder = Path(output_dir)
    if folder.is_file():
        raise ValueError(f"output_dir={output_dir} is a file")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise ValueError(
            f"{output_dir} is not empty: pass --overwrite_output_dir true to start anew, "
            "or --resume_from_checkpoint latest to go on"
        )


def _write_manifest(folder: Path) -> None:
    """List every file with its size and SHA-256, when all of them are on the disk itself."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    entries = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_of(path)} for path in files
    }
    manifest = folder / TRAINING_STATE / MANIFEST
    manifest.write_text(json.dumps({"files": entries}, indent=1))
    for path in [*files, manifest]:
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _remove(checkpoint: Path) -> None:
    """Take it away at once, so that no half of it is ever found."""
    beside = checkpoint.with_name(f"{UNFINISHED}{checkpoint.name}-removed")
    shutil.rmtree(beside, ignore_errors=True)
    os.replace(checkpoint, beside)
    shutil.rmtree(beside)


def _save_optimizer(state: dict, stem: Path) -> None:
    tensors = {
        f"{index}.{key}": torch.as_tensor(value).contiguous()
        for index, entries in state["state"].items()
        for key, value in entries.items()
    }
    save_file(tensors, stem.with_suffix(".safetensors"))
    stem.with_suffix(".json").write_text(json.dumps(state["param_groups"], indent=1))


def _load_optimizer(optimizer: torch.optim.Optimizer, stem: Path) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    entries: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in load_file(stem.with_suffix(".safetensors")).items():
        index, key = name.split(".", 1)
        entries.setdefault(int(index), {})[key] = scatter(tensor, parameters[int(index)])
    groups = json.loads(stem.with_suffix(".json").read_text())
    optimizer.load_state_dict({"state": entries, "param_groups": groups})
