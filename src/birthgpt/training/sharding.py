"""Training with weights, gradients and optimiser states spread over processes (accelerate's FSDP2).

What is spread is gathered to be written or asked, and spread again when it is read; so a checkpoint is the same
folder however its run was launched. What is not spread passes through all of this as it is.
"""

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import distributed
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from birthgpt.training.arguments import OptimizationArguments, RunArguments


def prepare_sharding(accelerator: Accelerator, optimization: OptimizationArguments, run: RunArguments) -> None:
    """Under FSDP, see to it that losses and sums of gradients stay in float32 where weights are bfloat16.

    Raises:
        ValueError: FSDP of version 1, or settings that need whole weights all the time.
    """
    if accelerator.distributed_type != DistributedType.FSDP:
        return
    if not accelerator.is_fsdp2:
        raise ValueError("FSDP of version 1 is not for this training: set fsdp_version to 2 in the launch file")
    settings = {**vars(optimization), "seeds": run.seeds}
    for name in ("ema_decay", "torch_compile", "learning_rates", "seeds"):
        if settings[name]:
            raise ValueError(
                f"{name}={settings[name]} is not for sharded weights: leave it out, or launch without FSDP"
            )
    if accelerator.mixed_precision == "bf16":
        accelerator.state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16, reduce_dtype=torch.float32, output_dtype=torch.float32
        )


def whole_model(model: PreTrainedModel) -> PreTrainedModel:
    """The model itself or, of one that is sharded, an ordinary copy; all processes call it, and each has one."""
    if not isinstance(model, FSDPModule):
        return model
    with model.device:
        whole = AutoModelForCausalLM.from_config(
            model.config, attn_implementation=model.config._attn_implementation, dtype=model.dtype
        )
    whole.load_state_dict({name: whole_tensor(value) for name, value in model.state_dict().items()})
    whole.generation_config = model.generation_config
    return whole


def whole_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor itself or, of one that is sharded, all of it; all processes call it, and each has it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gather(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Whole tensors for the main process to write, on its CPU where they were sharded; all processes call it.

    The others get those that were not sharded.
    """
    gathered = {}
    for name, tensor in tensors.items():
        whole = whole_tensor(tensor)
        if whole is tensor:
            gathered[name] = tensor
        elif distributed.get_rank() == 0:
            gathered[name] = whole.cpu()
    return gathered


def gather_optimizer(optimizer: torch.optim.Optimizer) -> dict:
    """The optimiser's `state_dict` for the main process to write; all processes call it."""
    state = optimizer.state_dict()
    return {**state, "state": {index: gather(entries) for index, entries in state["state"].items()}}


def scatter(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A whole tensor that every process has, spread as another of its shape is; itself where that is not sharded."""
    if not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


def scatter_weights(weights: dict[str, torch.Tensor], model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Whole weights by name, spread as the model's are."""
    own = model.state_dict()
    return {name: scatter(weight, own.get(name, weight)) for name, weight in weights.items()}
