"""Weights and optimiser states that accelerate's FSDP2 spreads over processes, as whole tensors and back.

PyTorch's `torch.distributed.checkpoint.state_dict` does the work: it gathers and distributes, and names every state by
its parameter. A model that is not sharded passes through it unchanged, so a checkpoint is the same folder however its
run was launched.
"""

from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM, PreTrainedModel


def check_sharding(accelerator: Accelerator, settings: dict[str, Any]) -> None:
    """Under FSDP, keep losses and sums of gradients in float32 where weights are bfloat16.

    Args:
        settings: all settings of the training by name.

    Raises:
        ValueError: FSDP of version 1, or settings that need whole weights all the time.
    """
    if accelerator.distributed_type != DistributedType.FSDP:
        return
    if not accelerator.is_fsdp2:
        raise ValueError("FSDP of version 1 is not supported: set fsdp_version to 2 in the launch file")
    for name in ("ema_decay", "torch_compile"):
        if settings[name]:
            raise ValueError(
                f"{name}={settings[name]} does not work with sharded weights: leave it out, or launch without FSDP"
            )
    if accelerator.mixed_precision == "bf16":
        accelerator.state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16, reduce_dtype=torch.float32, output_dtype=torch.float32
        )


def is_sharded(model: nn.Module) -> bool:
    """Whether the weights are spread over processes."""
    return isinstance(model, FSDPModule)


def full_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Whole weights by name. All processes call it; of a sharded model, only the main process has them, on its CPU."""
    # what PyTorch declares is wider: a state dict may also hold other things than tensors
    return get_model_state_dict(model, options=_options(model))  # type: ignore[return-value]


def load_full_weights(model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Load whole weights, of which a sharded model needs those of the main process. Others keep what they are."""
    set_model_state_dict(model, dict(weights), options=_options(model, loads=True))


def full_optimizer_state(model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> dict[str, Any]:
    """`state` and `param_groups` of several optimisers, by the names of the parameters. All processes call it."""
    return get_optimizer_state_dict(model, optimizers, options=_options(model))


def load_full_optimizer_state(model: nn.Module, optimizers: list[torch.optim.Optimizer], state: dict[str, Any]) -> None:
    """Load what `full_optimizer_state` returned, of which a sharded model needs that of the main process."""
    set_optimizer_state_dict(model, optimizers, state, options=_options(model, loads=True))


def _options(model: nn.Module, loads: bool = False) -> StateDictOptions:
    sharded = is_sharded(model)
    return StateDictOptions(
        full_state_dict=sharded, cpu_offload=sharded, broadcast_from_rank0=sharded and loads, strict=not loads
    )


def unsharded(model: PreTrainedModel) -> PreTrainedModel:
    """The model itself or, of a sharded model, an ordinary copy; all processes call it, and each gets one."""
    if not is_sharded(model):
        return model
    with model.device:
        whole = AutoModelForCausalLM.from_config(
            model.config, attn_implementation=model.config._attn_implementation, dtype=model.dtype
        )
    whole.load_state_dict({name: full_tensor(value) for name, value in model.state_dict().items()})
    whole.generation_config = model.generation_config
    return whole


def full_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor itself or, of a sharded tensor, all of it; all processes call it, and each gets it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
