"""Several models of one shape trained at once: other seeds, or other learning rates, on the same batches.

Their weights lie stacked, and one forward and backward, vectorised over the stack (`torch.func`), computes them
all. A small model leaves a GPU idle; many of them fill it. Each is, without dropout and up to rounding, the model
that its seed gives alone.
"""

import copy
import dataclasses
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from accelerate.utils import set_seed
from torch.func import functional_call, stack_module_state, vmap
from transformers import PreTrainedModel

from birthgpt.training.arguments import OptimizationArguments, RunArguments
from birthgpt.training.checkpoints import latest_valid, list_checkpoints
from birthgpt.training.trainer import Member, Trainer, TrainingSummary


@dataclasses.dataclass(frozen=True)
class Variant:
    """One of the models of a run: where it goes, and what sets it apart."""

    folder: Path
    seed: int
    learning_rate: float


def variants_of(optimization: OptimizationArguments, run: RunArguments, processes: int = 1) -> list[Variant]:
    """Every seed at every learning rate; none where the run names no list of either.

    Raises:
        ValueError: one that is named twice, several processes, or a compiled model.
    """
    if not run.seeds and not optimization.learning_rates:
        return []
    if processes > 1:
        raise ValueError("seeds and learning_rates are trained at once in one process: launch without more")
    if optimization.torch_compile:
        raise ValueError("torch_compile is for one model: leave it out, or seeds and learning_rates")
    variants = []
    for seed, rate in itertools.product(run.seeds or [run.seed], optimization.learning_rates or [None]):
        names = [f"seed-{seed}"] if run.seeds else []
        names += [f"learning_rate-{rate:g}"] if rate is not None else []
        folder = Path(run.output_dir, "_".join(names))
        variants.append(Variant(folder, seed, optimization.learning_rate if rate is None else rate))
    if len({variant.folder for variant in variants}) < len(variants):
        raise ValueError(f"seeds={run.seeds}, learning_rates={optimization.learning_rates}: one is named twice")
    return variants


class StackedTrainer(Trainer):
    """A `Trainer` of several models. Evaluation while training, and more than one process, are not its business.

    Args:
        build: makes a model; it is called once for each variant, with that one's seed set.
        variants: what `variants_of` gives.
    """

    def __init__(self, build: Callable[[], PreTrainedModel], variants: Sequence[Variant], *arguments):
        self.build, self.variants = build, variants
        super().__init__(None, *arguments)

    def _prepare(self, model: None) -> list[Member]:
        models = []
        for variant in self.variants:
            set_seed(variant.seed)
            models.append(self.build().to(self.accelerator.device))
        self.model = StackedModels(models)
        return [
            Member(model, self._optimizers_of(model), variant.seed, variant.learning_rate, variant.folder, average)
            for model, variant, average in zip(models, self.variants, map(self._average_of, models), strict=True)
        ]

    def _losses(self, inputs: dict) -> torch.Tensor:
        with self.accelerator.autocast():
            return self.model.losses(inputs)

    def _update(self, micro_batches):
        update = super()._update(micro_batches)
        self.model.zero_grad()
        return update

    def _checkpoint_of(self, member: Member, checkpoint: Path) -> Path:
        return member.folder / checkpoint.name

    def _step(self, member: Member, lr_scale: float) -> None:
        self.model.unstack_gradients(self.members.index(member))
        super()._step(member, lr_scale)


class StackedModels:
    """Models of one shape as slices of stacked weights, (models, …): each stays a model to be trained and saved."""

    def __init__(self, models: Sequence[PreTrainedModel]):
        self.models = models
        self.template = copy.deepcopy(models[0]).to("meta")
        # fused kernels on CUDA refuse a mask that all models share
        self.template.set_attn_implementation("eager")
        # the way there gives each of two tied weights a place of its own
        self.template.tie_weights()
        self.weights, self.buffers = stack_module_state(list(models))
        for index, model in enumerate(models):
            for name, parameter in model.named_parameters():
                parameter.data = self.weights[name].data[index]
            for name, buffer in model.named_buffers():
                buffer.data = self.buffers[name].data[index]

    def losses(self, inputs: dict) -> torch.Tensor:
        """(models,): the loss of each for the same inputs."""
        template = self.template.train(self.models[0].training)

        def loss_of(weights, buffers):
            return functional_call(template, (weights, buffers), kwargs=inputs).loss

        # dropout differs from model to model
        return vmap(loss_of, randomness="different")(self.weights, self.buffers)

    def unstack_gradients(self, index: int) -> None:
        """Give one of the models its slice of the gradients."""
        for name, parameter in self.models[index].named_parameters():
            gradient = self.weights[name].grad
            parameter.grad = None if gradient is None else gradient[index]

    def zero_grad(self) -> None:
        """Forget the gradients of all."""
        for stack in self.weights.values():
            stack.grad = None


def summary_of(summary: TrainingSummary, index: int) -> TrainingSummary:
    """What the summary of all says of one of the models; its time is its share of that of all."""
    if summary.models == 1:
        return summary
    history = [
        {
            **{key: value for key, value in entry.items() if key not in ("losses", "learning_rates")},
            "loss": entry["losses"][index],
            "learning_rate": entry["learning_rates"][index],
        }
        for entry in summary.history
    ]
    seconds = summary.seconds / summary.models
    return dataclasses.replace(summary, history=history, loss=history[-1]["loss"], seconds=seconds)


def checkpoint_of_all(variants: Sequence[Variant], resume_from_checkpoint: str | None) -> Path | None:
    """The newest checkpoint that is sound for every one of them, in the first's folder; None is the beginning.

    Raises:
        ValueError: something else than `latest`, checkpoints of which none is sound for all, or a model that has none
            where others have some.
    """
    if resume_from_checkpoint is None:
        return None
    if resume_from_checkpoint != "latest":
        raise ValueError("several models go on together: pass --resume_from_checkpoint latest")
    found = {variant.folder: {path.name for path in list_checkpoints(variant.folder)} for variant in variants}
    names = set.intersection(*found.values())
    # a run that is stopped while it writes the very first has one of some models, and a folder for each
    stopped_early = all(folder.is_dir() and len(of_one) < 2 for folder, of_one in found.items())
    if any(found.values()) and not names and not stopped_early:
        raise ValueError(f"these have no checkpoint in common: {', '.join(map(str, found))}; give the same models")
    newest_first = sorted(names, key=lambda name: -int(name.removeprefix("checkpoint-")))
    candidates = ([variant.folder / name for variant in variants] for name in newest_first)
    sound = latest_valid(candidates, variants[0].folder.parent)
    return sound[0] if sound is not None else None
