"""Several models of one shape, trained at once on the same batches with different seeds or learning rates.

Their weights are stacked. One forward and backward pass, vectorised over the stack (`torch.func`), computes all models.
One small model does not use a whole GPU, but many do. Without dropout and up to rounding, each model is the same as if
it was trained alone.
"""

import copy
import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.func import functional_call, stack_module_state, vmap
from transformers import PreTrainedModel

from birthgpt.settings import MAX_SEED, Number, checked, setting
from birthgpt.training.model_group import ModelGroup, Replica, ReplicaSpec, running_average
from birthgpt.training.optimizers import OptimizerSettings, build_optimizers


@checked
@dataclass(kw_only=True)
class ReplicaSettings:
    """Several models at once, in pretraining."""

    seeds: list[int] = setting([], "train a model for each seed at once, in output_dir/seed-N", min=0, max=MAX_SEED)
    learning_rates: list[Number] = setting([], "train a model for each peak rate at once", above=0)


def replica_specs(settings: ReplicaSettings, *, output_dir: str, seed: int, learning_rate: float) -> list[ReplicaSpec]:
    """The models of a run: every seed with every learning rate; empty if the settings list neither.

    Args:
        output_dir: the folder that contains the folders of the models.
        seed, learning_rate: the value for all models, if only the other is listed.

    Raises:
        ValueError: a seed or a rate that is listed twice.
    """
    if not settings.seeds and not settings.learning_rates:
        return []
    specs = []
    for own_seed, own_rate in itertools.product(settings.seeds or [seed], settings.learning_rates or [learning_rate]):
        names = [f"seed-{own_seed}"] if settings.seeds else []
        names += [f"learning_rate-{own_rate:g}"] if settings.learning_rates else []
        specs.append(ReplicaSpec(Path(output_dir, "_".join(names)), own_seed, own_rate))
    if len({spec.folder for spec in specs}) < len(specs):
        raise ValueError(f"seeds={settings.seeds}, learning_rates={settings.learning_rates}: one is listed twice")
    return specs


class StackedModels(ModelGroup):
    """Models of one shape whose weights are slices of stacked weights, (models, …).

    It does not support evaluation during training, several processes or `torch_compile`.

    Args:
        specs: what `replica_specs` returns.
        build: makes a model; it is called once for each model, after the seed of that model is set.
        settings: the settings of their optimizers; each has the learning rate of its spec.
    """

    def __init__(
        self,
        specs: Sequence[ReplicaSpec],
        build: Callable[[], PreTrainedModel],
        settings: OptimizerSettings,
        accelerator: Accelerator,
    ):
        self.settings, self.accelerator = settings, accelerator
        models = []
        for spec in specs:
            set_seed(spec.seed)
            models.append(build().to(accelerator.device))
        self.weights, self.buffers = stack_weights(models)
        self.template = template_of(models[0])
        self.replicas = [
            Replica(spec, model, build_optimizers(model, settings), running_average(model, settings.ema_decay))
            for spec, model in zip(specs, models, strict=True)
        ]

    def accumulate(self) -> AbstractContextManager:
        return self.accelerator.accumulate()

    def losses(self, inputs: dict) -> torch.Tensor:
        """(models,): the loss of each model for the same inputs."""
        with self.accelerator.autocast():
            return stacked_losses(self.template, self.weights, self.buffers, inputs)

    def train(self) -> None:
        super().train()
        self.template.train()

    def step(self, lr_scale: float) -> None:
        """Give each model its gradients, update its weights, and clear all gradients."""
        for index, replica in enumerate(self.replicas):
            unstack_gradients(replica.model, self.weights, index)
            replica.step(self.accelerator, lr_scale, self.settings.max_grad_norm)
        for stack in self.weights.values():
            stack.grad = None


def stack_weights(models: Sequence[PreTrainedModel]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Weights and buffers by name, (models, …); the tensors of each model become views of the stacks."""
    weights, buffers = stack_module_state(list(models))
    for index, model in enumerate(models):
        for name, parameter in model.named_parameters():
            parameter.data = weights[name].data[index]
        for name, buffer in model.named_buffers():
            buffer.data = buffers[name].data[index]
    return weights, buffers


def template_of(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of a model without weights, which is called with the weights of other models."""
    template = copy.deepcopy(model).to("meta")  # type: ignore[arg-type]
    # fused kernels on CUDA do not support a mask that all models share
    template.set_attn_implementation("eager")
    # `.to("meta")` unties the weights
    template.tie_weights()
    return template


def stacked_losses(template: PreTrainedModel, weights: dict, buffers: dict, inputs: dict) -> torch.Tensor:
    """(models,): the loss of each set of stacked weights for the same inputs."""

    def loss_of(own_weights, own_buffers):
        return functional_call(template, (own_weights, own_buffers), kwargs=inputs).loss

    # each model has its own dropout
    return vmap(loss_of, randomness="different")(weights, buffers)


def unstack_gradients(model: PreTrainedModel, weights: dict[str, torch.Tensor], index: int) -> None:
    """Give the model at `index` its part of the gradients."""
    for name, parameter in model.named_parameters():
        gradient = weights[name].grad
        parameter.grad = None if gradient is None else gradient[index]
