"""When a run saves: the callback, and checkpoints of sharded models, which are written while training goes on."""

import copy
import shutil
from concurrent.futures import wait
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch.distributed.checkpoint.api import CheckpointException
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from birthgpt.training.checkpoints import (
    CheckpointSettings,
    not_written,
    or_what_is_left,
    save_checkpoint,
    save_model,
    save_training_state,
)
from birthgpt.training.distributed_checkpoints import failures_of, is_fault_of_disk, save_shards, sharded_state
from birthgpt.training.events import TrainerCallback
from birthgpt.training.manifest import TRAINING_STATE, UNFINISHED, Entries, finish_checkpoint, prune_checkpoints
from birthgpt.training.model_group import Replica
from birthgpt.training.processes import decided_by_main
from birthgpt.training.sharding import is_sharded, unsharded_on_main
from birthgpt.training.state import TrainerState

if TYPE_CHECKING:
    from birthgpt.training.trainer import Trainer


class CheckpointCallback(TrainerCallback):
    """Saves a checkpoint every `save_steps` updates and when a signal stops the run, and the models at the end.

    Checkpoints of a sharded model are written while training goes on. The run ends if one could not be written.
    """

    def __init__(self, settings: CheckpointSettings, tokenizer: PreTrainedTokenizerBase):
        self.settings, self.tokenizer = settings, tokenizer
        self.group: dist.ProcessGroup | None = None
        self.saving: AsyncSave | None = None

    def on_train_begin(self, trainer: "Trainer") -> None:
        if is_sharded(trainer.models.replicas[0].model):
            self.group = saving_group()

    def on_step_begin(self, trainer: "Trainer") -> None:
        # here, and not at the end of an update, because processes exchange counts now anyway
        if self.saving is not None and self.saving.is_done():
            self.finish_saving()

    def on_step_end(self, trainer: "Trainer") -> None:
        save_steps, stops = self.settings.save_steps, trainer.stopped_by is not None
        if save_steps and (trainer.state.step % save_steps == 0 or stops):
            self.save(trainer)
        if stops:
            self.finish_saving()

    def save(self, trainer: "Trainer") -> None:
        """Save a checkpoint of every model, then remove the oldest ones."""
        self.finish_saving()
        trainer.flush_loss()
        trainer.models.check_finite(trainer.state.step)
        accelerator, replicas = trainer.accelerator, trainer.models.replicas
        accelerator.wait_for_everyone()
        trainer.state.stream_positions = trainer.loader.positions()
        limit = self.settings.save_total_limit
        if is_sharded(replicas[0].model):
            (replica,) = replicas
            self.saving = AsyncSave(replica, self.tokenizer, trainer.state, accelerator, self.group, limit)
            return
        for replica in replicas:
            # every process takes part in this
            save_checkpoint(replica, self.tokenizer, trainer.state, writes=accelerator.is_main_process)
        if accelerator.is_main_process:
            # after all are written: an old checkpoint may be the last one that all models have
            prune_checkpoints([replica.spec.folder for replica in replicas], limit)
        accelerator.wait_for_everyone()

    def finish_saving(self) -> None:
        """Wait until a checkpoint that is being saved is written; a ValueError if it could not be."""
        saving, self.saving = self.saving, None
        if saving is not None:
            saving.finish()

    def on_train_end(self, trainer: "Trainer") -> None:
        self.finish_saving()
        for replica in trainer.models.replicas:
            model = unsharded_on_main(replica.eval_model, trainer.accelerator)
            if model is not None and trainer.accelerator.is_main_process:
                Path(replica.spec.folder).mkdir(parents=True, exist_ok=True)
                save_model(replica.spec.folder, model.eval(), self.tokenizer)
        trainer.accelerator.wait_for_everyone()

    def close(self) -> None:
        if self.saving is not None:
            # after an error of the training, which is what is reported
            self.saving.wait()
        if self.group is not None:
            dist.destroy_process_group(self.group)


class AsyncSave:
    """Begins to write `checkpoint-STEP` under a temporary name; it is renamed when all processes have written.

    All processes make it, call its methods, and get the same result. Then the main process removes checkpoints beyond
    the limit.

    Args:
        group: the processes, connected for saving alone (`saving_group`).
        save_total_limit: how many checkpoints are kept.

    Raises:
        ValueError: on every process: the main process cannot write.
    """

    def __init__(
        self,
        replica: Replica,
        tokenizer: PreTrainedTokenizerBase,
        state: TrainerState,
        accelerator: Accelerator,
        group: dist.ProcessGroup | None,
        save_total_limit: int,
    ):
        self.accelerator, self.save_total_limit = accelerator, save_total_limit
        self.target = replica.spec.folder / f"checkpoint-{state.step}"
        self.unfinished = self.target.with_name(f"{UNFINISHED}{self.target.name}")
        tensors, param_groups = sharded_state(replica.model, replica.plain_optimizers)

        def write_rest() -> None:
            with or_what_is_left(str(self.target), self.unfinished):
                self.unfinished.mkdir()
                save_config(replica.model, self.unfinished)
                tokenizer.save_pretrained(self.unfinished)
                save_training_state(self.unfinished / TRAINING_STATE, replica, param_groups, state)

        decided_by_main(write_rest, accelerator)
        self.future = save_shards(tensors, self.unfinished, group, self._finish)

    def is_done(self) -> bool:
        """Whether all processes know that it is written, or has failed."""
        done = torch.tensor(int(self.future.done()), device=self.accelerator.device)
        return int(self.accelerator.reduce(done, "sum")) == self.accelerator.num_processes

    def finish(self) -> None:
        """Wait until it is written.

        Raises:
            ValueError: on every process: it could not be written, for example on a full disk. Older files stay.
        """
        try:
            self.future.result()
        except CheckpointException as error:
            shutil.rmtree(self.unfinished, ignore_errors=True)
            fault = not_written(str(self.target), failures_of(error), self.target.parent)
            if is_fault_of_disk(error):
                raise fault from error
            raise RuntimeError(str(fault)) from error

    def wait(self) -> None:
        """Wait until it is written, or has failed, and raise nothing."""
        wait([self.future])

    def _finish(self, hashed: Entries) -> None:
        finish_checkpoint(self.unfinished, hashed)
        prune_checkpoints([self.target.parent], self.save_total_limit)


def saving_group() -> dist.ProcessGroup | None:
    """A group of all processes over gloo, in which they save while they exchange gradients in another group."""
    return dist.new_group(backend="gloo") if dist.is_initialized() else None


def save_config(model: PreTrainedModel, folder: Path) -> None:
    """Write what `save_pretrained` writes beside the weights."""
    config = copy.deepcopy(model.config)
    config.dtype = str(model.dtype).removeprefix("torch.")
    # the class of a sharded model has another name
    config.architectures = [type(model).__name__.removeprefix("FSDP")]
    config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
