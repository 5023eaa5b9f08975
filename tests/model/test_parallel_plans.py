"""A model that transformers shards over processes, by tensor parallelism or FSDP2, equals the model of one process."""

import pytest
import torch
from builders import CASES, case_config, case_model, random_tokens
from processes import in_two_processes
from torch.distributed.tensor import DTensor
from transformers.distributed.configuration_utils import DistributedConfig

from birthgpt import BirthGPTForCausalLM, BirthGPTModel

SHARDED = ["softmax", "softmax-modern", "hybrid", "linformer", "perceiver", "gated_deltanet-hybrid", "performer-canon"]


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor of which each process has a part."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def largest_differences(folder: str, kind: str) -> dict[str, tuple[float, float]]:
    """The largest differences of logits and gradients from the unsharded model, for each case."""
    torch.distributed.init_process_group("gloo")
    found = {}
    for case in SHARDED:
        torch.manual_seed(0)
        model, tokens = case_model(case, torch.float32), random_tokens(2, 12)
        sharded = BirthGPTForCausalLM.from_pretrained(
            f"{folder}/{case}", distributed_config=DistributedConfig(**{kind: 2})
        ).eval()
        assert any(isinstance(parameter, DTensor) for parameter in sharded.parameters())
        logits = []
        for each in (model, sharded):
            outputs = each(tokens, labels=tokens, use_cache=False)
            outputs.loss.backward()
            logits.append(whole(outputs.logits).detach())
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        errors = [
            (whole(parameter.grad) - gradients[name]).abs().max().item()
            for name, parameter in sharded.named_parameters()
            if parameter.grad is not None
        ]
        assert len(errors) == sum(gradient is not None for gradient in gradients.values())
        found[case] = ((logits[0] - logits[1]).abs().max().item(), max(errors))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tp_size", "fsdp_size"])
def test_a_sharded_model_has_the_logits_and_gradients_of_the_whole(kind, tmp_path):
    for case in SHARDED:
        case_model(case, torch.float32).save_pretrained(tmp_path / case)
    for found in in_two_processes(largest_differences, str(tmp_path), kind):
        for case, errors in found.items():
            assert max(errors) < 1e-4, case


@pytest.mark.parametrize("case", CASES)
def test_every_entry_of_the_plans_names_a_module(case):
    with torch.device("meta"):
        model = BirthGPTForCausalLM(case_config(case))
    names = {".".join("*" if part.isdigit() else part for part in name.split(".")) for name, _ in model.named_modules()}
    assert model.tp_plan.keys() <= names
    assert {"model.layers.*.mlp.up_proj", "model.layers.*.mlp.down_proj", "lm_head"} <= model.tp_plan.keys()
    # only these types compute each head for itself, from its own part of the linear maps
    by_head = set(model.config.attention_types) <= {"softmax", "sliding_softmax"}
    assert any("attention" in name for name in model.tp_plan) == by_head
    assert {"model.embed_tokens", "model.layers.*", "model.norm", "lm_head"} <= model.fsdp_plan.keys()
    assert "base_model_tp_plan" not in model.config.to_dict()


def test_a_base_model_has_the_plan_without_the_head():
    plan = BirthGPTModel(case_config("softmax")).tp_plan
    assert "layers.*.attention.projections.q_proj" in plan and "lm_head" not in plan
