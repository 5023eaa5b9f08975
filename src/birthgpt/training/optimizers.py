"""Optimisers: AdamW, or Muon for the matrices of the blocks with AdamW for the rest."""

import torch
from torch import nn

OPTIMIZERS = ("adamw", "muon")


def build_optimizers(
    model: nn.Module,
    *,
    optimizer: str,
    learning_rate: float,
    weight_decay: float,
    adam_beta1: float,
    adam_beta2: float,
) -> list[torch.optim.Optimizer]:
    """The optimisers of a run; together they hold every trained parameter once.

    `adamw` decays the weights of linear maps alone, as the assignment does. `muon` (Jordan et al. 2024)
    orthogonalises the momentum of each matrix in the blocks, scaled by 0.2·√max(rows, columns) to the size
    of an AdamW step (2502.16982), so that one learning rate serves both; embeddings, head, norms and biases
    go to AdamW. Neither decays anything else.

    Raises:
        ValueError: an optimiser that does not exist.
    """
    check_optimizer(optimizer)
    matrices, others = split_parameters(model)
    betas = (adam_beta1, adam_beta2)
    if optimizer == "adamw":
        linear = [module.weight for module in model.modules() if isinstance(module, nn.Linear)]
        decayed = {id(parameter) for parameter in linear} - {id(p) for p in _embeddings(model)}
        parameters = matrices + others
        groups = [
            {"params": [p for p in parameters if id(p) in decayed], "weight_decay": weight_decay},
            {"params": [p for p in parameters if id(p) not in decayed], "weight_decay": 0.0},
        ]
        return [torch.optim.AdamW([g for g in groups if g["params"]], lr=learning_rate, betas=betas, fused=True)]
    muon = torch.optim.Muon(matrices, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(others, lr=learning_rate, betas=betas, weight_decay=0.0, fused=True)
    return [muon, adamw]


def check_optimizer(optimizer: str) -> None:
    """ValueError for a name that is not one of `OPTIMIZERS`."""
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizer={optimizer!r} does not exist: choose {' or '.join(OPTIMIZERS)}")


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The weights of linear maps inside blocks, and everything else that is trained."""
    inside = [
        module.weight for name, module in model.named_modules() if isinstance(module, nn.Linear) and "layers." in name
    ]
    matrices = [parameter for parameter in inside if parameter.requires_grad]
    identities = {id(parameter) for parameter in matrices}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in identities]
    return matrices, others


def _embeddings(model: nn.Module) -> list[nn.Parameter]:
    return [module.weight for module in model.modules() if isinstance(module, nn.Embedding)]
