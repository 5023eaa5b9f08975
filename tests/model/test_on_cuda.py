"""Every attention type on a GPU: the model of the CPU, in training and in decoding. Skipped without a GPU."""

import pytest
import torch
from builders import CASES, case_model, random_tokens
from transformers import DynamicCache

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

cases = pytest.mark.parametrize("case", CASES)


def loss_and_gradients(model, tokens: torch.Tensor, device: str) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Those of a pass on a device, copied to the CPU."""
    model, tokens = model.to(device), tokens.to(device)
    model.zero_grad()
    loss = model(tokens, labels=tokens, use_cache=False).loss
    loss.backward()
    gradients = [parameter.grad.cpu().clone() for parameter in model.parameters() if parameter.grad is not None]
    return loss.detach().cpu(), gradients


@cases
def test_loss_and_gradients_are_those_of_the_cpu(case):
    model, tokens = case_model(case, torch.float64).train(), random_tokens(2, 24)
    expected, expected_gradients = loss_and_gradients(model, tokens, "cpu")
    loss, gradients = loss_and_gradients(model, tokens, "cuda")
    # losses are computed in float32
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-5)
    assert len(gradients) == len(expected_gradients) > 0
    for gradient, its_expected in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, its_expected, rtol=1e-5, atol=1e-6)


@cases
def test_decoding_with_a_cache_is_one_pass(case):
    model, tokens = case_model(case, torch.float64).cuda(), random_tokens(2, 20).cuda()
    cache, parts = DynamicCache(config=model.config), []
    with torch.no_grad():
        for part in tokens.split([7, 1, 1, 11], dim=1):
            parts.append(model(part, past_key_values=cache).logits)
        whole = model(tokens, use_cache=False).logits
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-9)


@cases
def test_generated_tokens_are_those_of_the_cpu(case):
    model, tokens = case_model(case, torch.float64), random_tokens(2, 9)
    given = {"max_new_tokens": 8, "do_sample": False, "attention_mask": torch.ones_like(tokens)}
    expected = model.generate(tokens, **given)
    on_gpu = {name: value.cuda() if isinstance(value, torch.Tensor) else value for name, value in given.items()}
    assert torch.equal(model.cuda().generate(tokens.cuda(), **on_gpu).cpu(), expected)


@cases
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_near_float32(case, dtype):
    model, tokens = case_model(case, torch.float32, initializer_range=0.05).cuda(), random_tokens(2, 12).cuda()
    with torch.no_grad():
        expected = model(tokens, use_cache=False).logits
        with torch.autocast("cuda", dtype):
            under_autocast = model(tokens, use_cache=False).logits.float()
        whole = model.to(dtype)(tokens, use_cache=False).logits.float()
    for logits in (under_autocast, whole):
        assert (logits - expected).abs().max() < 0.1 * expected.abs().max()
