"""Models in half precision, on the meta device, under autocast and gradient checkpointing; empty batches; memory."""

import accelerate
import pytest
import torch
from builders import CASES, case_config, case_model, random_tokens, tiny_config
from transformers import AutoModelForCausalLM, DynamicCache

from birthgpt import BirthGPTForCausalLM
from birthgpt.model.attention_gated_deltanet import LARGEST_DECAY_RATE, STEP_RANGE
from birthgpt.model.attention_performer import draw_projection

cases = pytest.mark.parametrize("case", CASES)
HALVES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)


@cases
@HALVES
def test_a_model_is_built_in_half_precision(case, dtype):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(case_config(case, initializer_range=0.05), dtype=dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())
    assert model(random_tokens(2, 9)).logits.isfinite().all()


@HALVES
def test_what_is_drawn_in_half_precision_has_its_distribution(dtype):
    directions = [draw_projection(2, 8, 8, True, torch.Generator().manual_seed(0))]
    torch.set_default_dtype(dtype)
    try:
        directions.append(draw_projection(2, 8, 8, True, torch.Generator().manual_seed(0)))
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(*directions)
    model = AutoModelForCausalLM.from_config(case_config("gated_deltanet"), dtype=dtype)
    attention, tolerance = model.model.layers[0].attention, 0.02
    steps = torch.nn.functional.softplus(attention.dt_bias.float())
    assert STEP_RANGE[0] * (1 - tolerance) <= steps.min() and steps.max() <= STEP_RANGE[1] * (1 + tolerance)
    assert attention.A_log.float().exp().max() <= LARGEST_DECAY_RATE * (1 + tolerance)


@cases
def test_a_forward_pass_on_the_meta_device_has_the_shapes(case):
    with torch.device("meta"):
        model = BirthGPTForCausalLM(case_config(case))
    tokens = torch.zeros(2, 16, dtype=torch.long, device="meta")
    assert model(tokens, labels=tokens, use_cache=False).loss.shape == ()
    outputs = model(tokens, use_cache=True)
    assert outputs.logits.is_meta and outputs.logits.shape == (2, 16, 24)
    assert model(tokens[:, :1], past_key_values=outputs.past_key_values).logits.shape == (2, 1, 24)


@cases
@pytest.mark.parametrize("autocast_first", [False, True])
def test_a_cache_continues_under_autocast_and_without(case, autocast_first):
    model, tokens = case_model(case, torch.float32, initializer_range=0.05), random_tokens(2, 12)
    cache, parts = DynamicCache(config=model.config), []
    with torch.no_grad():
        for index, part in enumerate(tokens.split([5, 4, 1, 2], dim=1)):
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast_first == (index % 2 == 0)):
                parts.append(model(part, past_key_values=cache).logits.float())
        whole = model(tokens, use_cache=False).logits
    assert (torch.cat(parts, dim=1) - whole).abs().max() < 0.1 * whole.abs().max()


@cases
def test_reentrant_gradient_checkpointing_changes_no_gradient(case):
    model, tokens = case_model(case).train(), random_tokens(2, 12)
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": True})
        model.zero_grad()
        model(tokens, labels=tokens, use_cache=False).loss.backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters() if parameter.requires_grad])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed, rtol=0, atol=1e-12)


@cases
def test_a_cache_keeps_the_memory_of_its_states_alone(case):
    model = case_model(case, torch.float32)
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        model(random_tokens(1, 60), past_key_values=cache)
    for layer in cache.layers:
        for name, state in getattr(layer, "states", {}).items():
            # one more slot, which receives ignored tokens
            assert state.untyped_storage().nbytes() <= 1.1 * state.nbytes, name


@cases
@pytest.mark.parametrize("shape", [(0, 5), (2, 0), (0, 0)], ids=str)
def test_an_empty_batch_is_refused_in_a_line(case, shape):
    model = case_model(case)
    with pytest.raises(ValueError, match=f"a batch of {shape[0]} rows and {shape[1]} tokens is empty"):
        model(torch.zeros(shape, dtype=torch.long))
    if model.model.embed_ngrams is None:
        with pytest.raises(ValueError, match="is empty"):
            model(inputs_embeds=torch.zeros(*shape, 16).double())


@pytest.mark.parametrize("heads", [1, 4])
def test_learned_positions_take_heads_of_odd_width(heads):
    model = BirthGPTForCausalLM(tiny_config("assignment", hidden_size=7 * heads, num_attention_heads=heads))
    assert model(random_tokens(1, 5)).logits.isfinite().all()
    with pytest.raises(ValueError, match="rotary positions need heads of even width"):
        tiny_config("modern", hidden_size=7 * heads, num_attention_heads=heads)


@cases
def test_weights_may_be_elsewhere_between_the_calls_of_their_modules(case):
    """As accelerate keeps them on the disk: a weight that is read outside of a call of its module is not there."""
    model = case_model(case)
    tokens = random_tokens(2, 12)
    expected = model(tokens).logits
    offloaded = accelerate.cpu_offload(model, execution_device=torch.device("cpu"))
    torch.testing.assert_close(offloaded(tokens).logits, expected, rtol=0, atol=0)
