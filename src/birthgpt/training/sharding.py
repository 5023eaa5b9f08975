"""Weights and optimizer states under FSDP2 of accelerate: gathered into whole tensors, and sharded again.

`torch.distributed.checkpoint.state_dict` of PyTorch gathers and shards them, and names every state by its parameter. It
does not change a model that is not sharded. So one run can begin without shards and go on with them, or the reverse.
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
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedConfig, PreTrainedModel


def check_sharding(accelerator: Accelerator, settings: dict[str, Any]) -> None:
    """Check the settings under FSDP; with bfloat16 weights, keep losses and sums of gradients in float32.

    Args:
        settings: all settings of the training by name.

    Raises:
        ValueError: FSDP of version 1, or settings that always need whole weights.
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
    """Whether the weights are sharded over processes."""
    return isinstance(model, FSDPModule)


def full_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Whole weights by name; all processes call this. Of a sharded model only the main process has them, on the CPU."""
    # PyTorch declares a wider type: a state dict may also contain other values than tensors
    return get_model_state_dict(model, options=_options(model))  # type: ignore[return-value]


def load_full_weights(model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Load whole weights; a sharded model takes them from the main process. Missing weights do not change."""
    set_model_state_dict(model, dict(weights), options=_options(model, loads=True))


def full_optimizer_state(model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> dict[str, Any]:
    """`state` and `param_groups` of several optimizers, by parameter name. All processes call this."""
    return get_optimizer_state_dict(model, optimizers, options=_options(model))


def load_full_optimizer_state(model: nn.Module, optimizers: list[torch.optim.Optimizer], state: dict[str, Any]) -> None:
    """Load what `full_optimizer_state` returned; a sharded model takes it from the main process."""
    set_optimizer_state_dict(model, optimizers, state, options=_options(model, loads=True))


def _options(model: nn.Module, loads: bool = False) -> StateDictOptions:
    sharded = is_sharded(model)
    return StateDictOptions(
        full_state_dict=sharded, cpu_offload=sharded, broadcast_from_rank0=sharded and loads, strict=not loads
    )


def unsharded(model: PreTrainedModel) -> PreTrainedModel:
    """The model, or an unsharded copy of a sharded model. All processes call this, and each gets a copy."""
    if not is_sharded(model):
        return model
    with model.device:
        whole = _new_copy(model)
    whole.load_state_dict({name: full_tensor(value) for name, value in model.state_dict().items()})
    return whole


def unsharded_on_main(model: PreTrainedModel, accelerator: Accelerator) -> PreTrainedModel | None:
    """The model, or an unsharded copy of a sharded model on the CPU, which only the main process gets (others: None).

    All processes call this. No GPU has to hold the whole model.
    """
    if not is_sharded(model):
        return model
    weights = full_weights(model)
    if not accelerator.is_main_process:
        return None
    whole = _new_copy(model)
    whole.load_state_dict(weights)
    return whole


def new_model(config: PreTrainedConfig, **settings: Any) -> PreTrainedModel:
    """A model with new weights, of the class that this configuration has."""
    auto_class = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    return auto_class.from_config(config, trust_remote_code=False, **settings)


def _new_copy(model: PreTrainedModel) -> PreTrainedModel:
    """A model with new weights and the settings of this one."""
    copy = new_model(model.config, attn_implementation=model.config._attn_implementation, dtype=model.dtype)
    copy.generation_config = model.generation_config
    return copy


def full_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, or the whole of a sharded tensor. All processes call this, and each gets the whole."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
