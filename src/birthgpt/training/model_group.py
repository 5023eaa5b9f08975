"""What the trainer trains: one model, or a group of models on the same batches, each with its own optimizers."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import PreTrainedModel

from birthgpt.training.optimizers import (
    OptimizerSettings,
    build_optimizers,
    clip_sparse_gradients,
    ngram_tables,
    unwrap_optimizer,
)
from birthgpt.training.sharding import full_tensor


@dataclass(frozen=True)
class ReplicaSpec:
    """The seed and the learning rate of one model of a group, and the folder in which it is saved."""

    folder: Path
    seed: int
    learning_rate: float


@dataclass
class Replica:
    """One model in training, with its own optimizers, average and best weights."""

    spec: ReplicaSpec
    model: PreTrainedModel
    optimizers: list[torch.optim.Optimizer]
    average: AveragedModel | None = None
    best_weights: dict[str, torch.Tensor] | None = None

    @property
    def eval_model(self) -> PreTrainedModel:
        """The model that is evaluated, and saved at the end: the trained weights or their running average."""
        if self.average is None:
            return self.model
        assert isinstance(self.average.module, PreTrainedModel)
        return self.average.module

    @property
    def plain_optimizers(self) -> list[torch.optim.Optimizer]:
        """The optimizers without the wrapper of accelerate."""
        return [unwrap_optimizer(optimizer) for optimizer in self.optimizers]

    def step(self, accelerator: Accelerator, lr_scale: float, max_grad_norm: float) -> None:
        """Clip the gradient, and update the weights with `lr_scale` times the peak learning rate."""
        if max_grad_norm and any(table.sparse for table in ngram_tables(self.model)):
            clip_sparse_gradients(self.model.parameters(), max_grad_norm)
        elif max_grad_norm:
            accelerator.clip_grad_norm_(self.model.parameters(), max_grad_norm)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.spec.learning_rate * lr_scale
            optimizer.step()
            optimizer.zero_grad()
        if self.average is not None:
            self.average.update_parameters(self.model)


class ModelGroup:
    """The models that a trainer trains: their losses on a batch, and their updates. This class trains a single model.

    Args:
        spec: folder, seed and learning rate of the model.
        model: the model, on any device.
        settings: the settings of its optimizers.
        torch_compile: whether the forward pass is compiled.
    """

    def __init__(
        self,
        spec: ReplicaSpec,
        model: PreTrainedModel,
        settings: OptimizerSettings,
        accelerator: Accelerator,
        torch_compile: bool = False,
    ):
        self.settings, self.accelerator = settings, accelerator
        if settings.sparse_ngrams and accelerator.num_processes == 1 and not torch_compile:
            # processes exchange dense gradients, and a compiled model computes them; their updates are the same
            for table in ngram_tables(model):
                table.sparse = True
        self.model, *optimizers = accelerator.prepare(model, *build_optimizers(model, settings))
        model = accelerator.unwrap_model(self.model)
        if torch_compile:
            # batches differ in shape
            self.model = torch.compile(self.model, dynamic=True)
        self.replicas = [Replica(spec, model, optimizers, running_average(model, settings.ema_decay))]

    def __len__(self) -> int:
        return len(self.replicas)

    def train(self) -> None:
        """Put all models into training mode."""
        for replica in self.replicas:
            replica.model.train()

    def accumulate(self) -> AbstractContextManager:
        """The context of one micro-batch: processes exchange gradients only after the last micro-batch."""
        return self.accelerator.accumulate(self.model)

    def losses(self, inputs: dict) -> torch.Tensor:
        """(models,): the loss of each model for the same inputs."""
        return self.model(**inputs).loss[None]

    def step(self, lr_scale: float) -> None:
        """Update the weights of all models, and clear the gradients."""
        for replica in self.replicas:
            replica.step(self.accelerator, lr_scale, self.settings.max_grad_norm)

    def check_finite(self, step: int) -> None:
        """Raise ValueError for a weight that is not finite after `step` updates.

        Gradients may be NaN or infinite even if the loss is finite.
        """
        for replica in self.replicas:
            for name, weights in [*replica.model.named_parameters(), *replica.eval_model.named_parameters()]:
                if not full_tensor(weights.isfinite().all()):
                    raise ValueError(
                        f"{replica.spec.folder}: {name} is not finite after update {step}: lower learning_rate or "
                        "max_grad_norm; the last checkpoint is from an earlier update"
                    )


def running_average(model: PreTrainedModel, decay: float) -> AveragedModel | None:
    """The exponential moving average of the weights; None for a decay of 0."""
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay)) if decay else None


def count_parameters(model: PreTrainedModel) -> int:
    """The number of parameters in the matrix products for a token: without embeddings, with the head.

    A token of an encoder–decoder passes one of its stacks: the number is that of the larger one.
    """
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    head = model.get_output_embeddings()
    embeddings -= {id(head.weight)} if head is not None else set()
    counted = [(name, weights.numel()) for name, weights in model.named_parameters() if id(weights) not in embeddings]
    total = sum(size for _, size in counted)
    if not model.config.is_encoder_decoder:
        return total
    in_encoder = sum(size for name, size in counted if name.startswith("encoder."))
    return max(in_encoder, total - in_encoder)


def training_flops(model: PreTrainedModel, tokens: float) -> float:
    """6 · N · tokens, including padding: a nominal count, as if every token used every parameter."""
    return 6.0 * count_parameters(model) * tokens
