"""Checkpoints: folders that `from_pretrained` loads, written whole or not at all.

Beside the model lies `training_state/`, as safetensors and JSON: what a run needs to go on as if it had
never stopped. It is never needed to use the model.
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

TRAINING_STATE = "training_state"
UNFINISHED = ".unfinished-"


@dataclass
class Progress:
    """How far a run has come."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    tokens: int = 0
    targets: int = 0
    seconds: float = 0.0


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
    optimizers: list[torch.optim.Optimizer],
    progress: Progress,
    save_total_limit: int,
) -> Path:
    """Write `checkpoint-STEP` beside its place, rename it there, and remove the oldest beyond the limit."""
    target = run_folder / f"checkpoint-{progress.step}"
    beside = run_folder / f"{UNFINISHED}{target.name}"
    shutil.rmtree(beside, ignore_errors=True)
    model.save_pretrained(beside)
    tokenizer.save_pretrained(beside)
    state = beside / TRAINING_STATE
    state.mkdir()
    for index, optimizer in enumerate(optimizers):
        _save_optimizer(optimizer, state / f"optimizer_{index}")
    (state / "progress.json").write_text(json.dumps(asdict(progress), indent=1))
    shutil.rmtree(target, ignore_errors=True)
    os.replace(beside, target)
    for old in list_checkpoints(run_folder)[:-save_total_limit]:
        shutil.rmtree(old)
    return target


def load_checkpoint(checkpoint: Path, model: PreTrainedModel, optimizers: list[torch.optim.Optimizer]) -> Progress:
    """Bring model and optimisers back to where `save_checkpoint` found them, and say how far that was."""
    state = checkpoint / TRAINING_STATE
    if not (state / "progress.json").is_file():
        raise ValueError(f"{checkpoint} holds no {TRAINING_STATE}: a run cannot be resumed from it")
    # strict=False: a tied head is stored once
    missing, unexpected = model.load_state_dict(load_file(checkpoint / "model.safetensors"), strict=False)
    if unexpected or set(missing) - set(model._tied_weights_keys or {}):
        raise ValueError(f"{checkpoint} holds another model than this run's: {(missing + unexpected)[0]}")
    for index, optimizer in enumerate(optimizers):
        _load_optimizer(optimizer, state / f"optimizer_{index}")
    return Progress(**json.loads((state / "progress.json").read_text()))


def list_checkpoints(run_folder: Path) -> list[Path]:
    """The finished checkpoints of a run, by step."""
    found = [path for path in run_folder.glob("checkpoint-*") if (path / TRAINING_STATE).is_dir()]
    return sorted(found, key=lambda path: json.loads((path / TRAINING_STATE / "progress.json").read_text())["step"])


def checkpoint_to_resume(output_dir: str, resume_from_checkpoint: str | None) -> Path | None:
    """The folder that `resume_from_checkpoint` means (a path, or `latest`); ValueError where there is none."""
    if resume_from_checkpoint is None:
        return None
    if resume_from_checkpoint == "latest":
        checkpoints = list_checkpoints(Path(output_dir))
        if not checkpoints:
            raise ValueError(f"{output_dir} holds no checkpoint to resume from")
        return checkpoints[-1]
    if not (Path(resume_from_checkpoint) / TRAINING_STATE).is_dir():
        raise ValueError(f"resume_from_checkpoint={resume_from_checkpoint} is no checkpoint of a run")
    return Path(resume_from_checkpoint)


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


def _save_optimizer(optimizer: torch.optim.Optimizer, stem: Path) -> None:
    state = optimizer.state_dict()
    tensors = {
        f"{index}.{key}": torch.as_tensor(value).contiguous()
        for index, entries in state["state"].items()
        for key, value in entries.items()
    }
    save_file(tensors, stem.with_suffix(".safetensors"))
    stem.with_suffix(".json").write_text(json.dumps(state["param_groups"], indent=1))


def _load_optimizer(optimizer: torch.optim.Optimizer, stem: Path) -> None:
    entries: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in load_file(stem.with_suffix(".safetensors")).items():
        index, key = name.split(".", 1)
        entries.setdefault(int(index), {})[key] = tensor
    groups = json.loads(stem.with_suffix(".json").read_text())
    optimizer.load_state_dict({"state": entries, "param_groups": groups})
