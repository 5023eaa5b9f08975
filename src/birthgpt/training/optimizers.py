"""Optimizers: AdamW, or Muon for the matrices of the blocks with AdamW for the rest; RowAdam for large tables."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from birthgpt.model.ngrams import NgramEmbedding
from birthgpt.settings import Number, checked, setting

logger = logging.getLogger(__name__)


@checked
@dataclass(kw_only=True)
class OptimizerSettings:
    """How the weights are updated."""

    optimizer: Literal["adamw", "muon"] = setting(
        "adamw", "adamw, or muon for the matrices of the blocks and adamw for the rest"
    )
    learning_rate: Number = setting(1e-3, "peak learning rate", above=0)
    sparse_ngrams: bool = setting(
        False, "update only the n-gram embeddings that are in the batch, without momentum: large tables cost no time"
    )
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
    head, norms and biases. With `sparse_ngrams`, `RowAdam` trains the tables of n-grams.
    """
    matrices, others = split_parameters(model)
    lr, decay, betas = settings.learning_rate, settings.weight_decay, (settings.adam_beta1, settings.adam_beta2)
    tables = [table.weight for table in ngram_tables(model)] if settings.sparse_ngrams else []
    if settings.sparse_ngrams and not tables:
        logger.warning("sparse_ngrams=True has no effect: the model has no embeddings of n-grams")
    rows = [RowAdam(tables, lr=lr, beta2=settings.adam_beta2)] if tables else []
    others = [parameter for parameter in others if not any(parameter is table for table in tables)]
    if settings.optimizer == "adamw":
        embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
        linear = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)} - embeddings
        parameters = matrices + others
        groups: list[dict[str, Any]] = [
            {"params": [p for p in parameters if id(p) in linear], "weight_decay": decay},
            {"params": [p for p in parameters if id(p) not in linear], "weight_decay": 0.0},
        ]
        return [torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, betas=betas, fused=True), *rows]
    muon = torch.optim.Muon(matrices, lr=lr, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(others, lr=lr, betas=betas, weight_decay=0.0, fused=True)
    return [muon, adamw, *rows]


class RowAdam(torch.optim.Optimizer):
    """Adam without momentum (RMSProp, with Adam's bias correction) that changes only rows with a gradient.

        v_r ← β₂·v_r + (1 − β₂)·g_r²,    θ_r ← θ_r − lr·g_r / (√(v_r / (1 − β₂ᵗ)) + ε)

    for the rows r with g_r ≠ 0 in update t, like `torch.optim.SparseAdam` with β₁ = 0. It has half of the state, and
    takes sparse and dense gradients with the same result. Its time grows with the batch, not with the table.

    Args:
        parameters: matrices, one row for each n-gram.
    """

    def __init__(self, parameters: Iterable[torch.Tensor], lr: float, beta2: float, eps: float = 1e-8):
        super().__init__(parameters, {"lr": lr, "beta2": beta2, "eps": eps})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update the rows that have a gradient."""
        assert closure is None, "the trainer computes the loss"
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    self.update(table, group)

    def update(self, table: torch.Tensor, group: dict[str, Any]) -> None:
        """One update of a table."""
        state = self.state[table]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg_sq"] = torch.zeros_like(table)
        state["step"] += 1
        unbias = 1 - group["beta2"] ** state["step"].item()
        gradient, squares = table.grad, state["exp_avg_sq"]
        assert gradient is not None
        if not gradient.is_sparse:
            seen = (gradient != 0).any(dim=-1, keepdim=True)
            squares.lerp_(torch.where(seen, gradient.square(), squares), 1 - group["beta2"])
            table.addcdiv_(gradient, (squares / unbias).sqrt() + group["eps"], value=-group["lr"])
            return
        gradient = gradient.coalesce()
        rows, values = gradient.indices()[0], gradient.values()  # (rows,), (rows, hidden_size)
        # the rows of n-grams that are not whole have a gradient of zeros
        is_seen = (values != 0).any(dim=-1)
        rows, values = rows[is_seen], values[is_seen]
        seen_squares = squares[rows].lerp_(values.square(), 1 - group["beta2"])
        squares.index_copy_(0, rows, seen_squares)
        table.index_add_(0, rows, values / ((seen_squares / unbias).sqrt() + group["eps"]), alpha=-group["lr"])


def ngram_tables(model: nn.Module) -> list[nn.Embedding]:
    """The embeddings of n-grams, a table for each order."""
    found = [module for module in model.modules() if isinstance(module, NgramEmbedding)]
    return [table for module in found for table in module.tables]  # type: ignore[misc]


def clip_sparse_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> None:
    """Clip the norm of all gradients, as `torch.nn.utils.clip_grad_norm_` does for dense ones."""
    trained = [parameter for parameter in parameters if parameter.grad is not None]
    for parameter in trained:
        if parameter.grad.is_sparse:  # type: ignore[union-attr]
            # a row that is in the batch twice has the sum of both gradients
            parameter.grad = parameter.grad.coalesce()  # type: ignore[union-attr]
    gradients: list[Any] = [parameter.grad for parameter in trained]
    values = [gradient.values() if gradient.is_sparse else gradient for gradient in gradients]
    scale = (max_norm / (torch.nn.utils.get_total_norm(values) + 1e-6)).clamp(max=1.0)
    for part in values:
        part.mul_(scale)


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
