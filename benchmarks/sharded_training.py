"""What `scaling.py` measures in each of several processes over gloo: a sharded training on CPUs, and its saving."""

import argparse
import builtins
import io
import time
from pathlib import Path

import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType, gather_object
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from birthgpt.commands.building import ModelSettings, build_model
from birthgpt.commands.pretrain import PretrainSettings, pretrain
from birthgpt.settings import make_settings
from birthgpt.training.checkpoints import save_checkpoint
from birthgpt.training.model_group import ModelGroup, Replica, ReplicaSpec
from birthgpt.training.optimizers import OptimizerSettings
from birthgpt.training.saving import AsyncSave, saving_group
from birthgpt.training.state import TrainerState
from birthgpt.training.trainer import Trainer
from birthgpt.utils.files import save_json

LAYERS, BLOCK = 2, 512


class CountedFile(io.FileIO):
    """Counts the bytes that this process reads from files."""

    total = 0

    def readinto(self, buffer) -> int | None:
        return self._counted(super().readinto(buffer))

    def readall(self) -> bytes:
        content = super().readall()
        self._counted(len(content))
        return content

    def _counted(self, size: int | None) -> int | None:
        CountedFile.total += size or 0
        return size


def count_reading_of(folder: Path) -> None:
    """Let `CountedFile` count what is read from files of a folder while the trainer trains."""
    plain_open, train = builtins.open, Trainer.train

    def counting_open(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, *others, **named):
        if isinstance(file, int) or mode not in ("r", "rt", "rb") or folder not in Path(file).absolute().parents:
            return plain_open(file, mode, buffering, encoding, errors, newline, *others, **named)
        content = io.BufferedReader(CountedFile(file))
        return content if mode == "rb" else io.TextIOWrapper(content, encoding, errors, newline)

    def train_and_count(self: Trainer, *arguments):
        CountedFile.total = 0
        return train(self, *arguments)

    builtins.open = io.open = counting_open
    Trainer.train = train_and_count  # type: ignore[method-assign]


def shard_on_cpus() -> None:
    """Let accelerate shard the weights, which it does on GPUs only."""
    AcceleratorState._reset_state()
    state = Accelerator(cpu=True).state
    if state.num_processes > 1:
        state.fsdp_plugin = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="transformer_based_wrap")
        state.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP


def training_metrics(corpus: Path, folder: Path, width: int, updates: int) -> dict:
    """Tokens a second of a pretraining on a streamed corpus, and the bytes that each process reads for it."""
    shard_on_cpus()
    count_reading_of(corpus.resolve())
    settings = make_settings(
        PretrainSettings,
        train_file=f"{corpus}/*.txt",
        streaming=True,
        output_dir=str(folder),
        tokenizer_type="bpe",
        vocab_size=512,
        block_size=BLOCK,
        objective="language_modeling",
        hidden_size=width,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        tokens_per_batch=4096,
        max_train_steps=updates,
        save_steps=0,
    )
    summary = pretrain(settings)
    assert summary is not None
    return {"tokens_per_second": summary.tokens_per_second, "bytes_read": gather_object([CountedFile.total])}


def saving_metrics(folder: Path, tokenizer: PreTrainedTokenizerBase, width: int) -> dict:
    """Seconds to save a checkpoint: gathered, and in shards, where training only waits until tensors are copied."""
    shard_on_cpus()
    accelerator = Accelerator(cpu=True)
    replica = updated_replica(folder, tokenizer, width, accelerator)
    started = _start(accelerator)
    checkpoint = save_checkpoint(replica, tokenizer, TrainerState(step=1), writes=accelerator.is_main_process)
    accelerator.wait_for_everyone()
    found = {
        "checkpoint_bytes": sum(file.stat().st_size for file in checkpoint.rglob("*") if file.is_file()),
        "gathered_seconds": time.perf_counter() - started,
    }
    if accelerator.num_processes > 1:
        group = saving_group()
        started = _start(accelerator)
        saving = AsyncSave(replica, tokenizer, TrainerState(step=2), accelerator, group, save_total_limit=2)
        found["waited_for_shards_seconds"] = time.perf_counter() - started
        saving.finish()
        found["shards_seconds"] = time.perf_counter() - started
        torch.distributed.destroy_process_group(group)
    return found


def updated_replica(folder: Path, tokenizer: PreTrainedTokenizerBase, width: int, accelerator: Accelerator) -> Replica:
    """A model whose optimizer has states, which a checkpoint contains."""
    model = build_model(make_settings(ModelSettings, hidden_size=width, num_hidden_layers=LAYERS), tokenizer, BLOCK)
    spec = ReplicaSpec(folder, seed=0, learning_rate=1e-3)
    models = ModelGroup(spec, model, OptimizerSettings(weight_decay=0.1), accelerator)
    for parameter in models.replicas[0].model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    models.step(lr_scale=1.0)
    return models.replicas[0]


def _start(accelerator: Accelerator) -> float:
    accelerator.wait_for_everyone()
    return time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, help="folder with *.txt")
    parser.add_argument("--tokenizer", help="folder of the tokenizer of the model that is saved")
    parser.add_argument("--folder", type=Path, help="an empty folder for runs, and for metrics.json")
    parser.add_argument("--training_width", type=int)
    parser.add_argument("--checkpoint_width", type=int)
    parser.add_argument("--updates", type=int)
    arguments = parser.parse_args()
    folder = arguments.folder
    metrics = training_metrics(arguments.corpus, folder / "run", arguments.training_width, arguments.updates)
    (folder / "saved").mkdir(exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(arguments.tokenizer)
    metrics |= saving_metrics(folder / "saved", tokenizer, arguments.checkpoint_width)
    if PartialState().is_main_process:
        save_json(folder / "metrics.json", metrics)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
