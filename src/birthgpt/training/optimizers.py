"""Optimizers: AdamW, or Muon for the matrices of the blocks with AdamW for the rest."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from birthgpt.settings import Number, checked, setting


@checked
@dataclass(kw_only=True)
class OptimizerSettings:
    """How the weights are updated."""

    optimizer: Literal["adamw", "muon"] = setting(
        "adamw", "adamw, or muon for the matrices of the blocks and adamw for the rest"
    )
    learning_rate: Number = setting(1e-3, "peak learning rate", above=0)
    weight_decay: Number = setting(0.0, "decay of the matrices", min=0)
    adam_beta1: Number = setting(0.9, "decay of AdamW's average of gradients", min=0, below=1)
    adam_beta2: Number = setting(0.95, "decay of AdamW's average of squared gradients", min=0, below=1)
    max_grad_norm: Number = setting(1.0, "clip the gradient at this norm; 0 for no clipping", min=0)
    ema_decay: Number = setting(
        0.0, "evaluate and save a running average of the weights with this decay, such as 0.999; 0 for none",
        min=0, below=1,
    )  # fmt: skip


def build_optimizers(model: nn.Module, settings: OptimizerSettings) -> list[torch.optim.Optimizer]:
    """The optimizers of a run; together they contain every trained parameter once.

    `adamw` decays only the weights of linear maps, as in the assignment. `muon` (Jordan et al. 2024) orthogonalises the
    momentum of each matrix in the blocks, and scales it by 0.2·√max(rows, columns) to the size of an AdamW step
    (2502.16982), so that both have the same learning rate. It decays only these matrices. AdamW trains the embeddings,
    head, norms and biases.
    """
    matrices, others = split_parameters(model)
    lr, decay, betas = settings.learning_rate, settings.weight_decay, (settings.adam_beta1, settings.adam_beta2)
    if settings.optimizer == "adamw":
        embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
        linear = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)} - embeddings
        parameters = matrices + others
        groups: list[dict[str, Any]] = [
            {"params": [p for p in parameters if id(p) in linear], "weight_decay": decay},
            {"params": [p for p in parameters if id(p) not in linear], "weight_decay": 0.0},
        ]
        return [torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, betas=betas, fused=True)]
    muon = torch.optim.Muon(matrices, lr=lr, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(others, lr=lr, betas=betas, weight_decay=0.0, fused=True)
    return [muon, adamw]


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The weights of linear maps in blocks, and all other trained parameters."""
    inside = {
        id(module.weight)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and "layers." in name
    }
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if id(parameter) in inside]
    others = [parameter for parameter in trained if id(parameter) not in inside]
    return matrices, others


def unwrap_optimizer(optimizer) -> torch.optim.Optimizer:
    """The optimizer without the wrapper of accelerate."""
    return getattr(optimizer, "optimizer", optimizer)
