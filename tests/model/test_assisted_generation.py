"""Tokens can be removed from a cache that keeps them one by one; assisted generation serves, or is refused at once."""

import pytest
import torch
from builders import CASES, case_model, left_padded, random_tokens
from transformers import DynamicCache

TYPES_THAT_CAN_CROP = {"softmax", "sliding_softmax", "synthesizer", "bigbird"}
SETTINGS = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None}
# random, repeated, and with a token twice in a row: prompt lookup finds candidates in some of them only
PROMPTS = [random_tokens(1, 7), random_tokens(1, 4, seed=3).repeat(1, 3), torch.tensor([[5, 5, 6, 5, 5, 6, 5, 5]])]

cases = pytest.mark.parametrize("case", CASES)


def can_crop(model) -> bool:
    return set(model.config.attention_types) <= TYPES_THAT_CAN_CROP


@cases
def test_prompt_lookup_generates_the_same_or_is_refused_for_every_prompt(case):
    model = case_model(case)
    for prompt in PROMPTS:
        if can_crop(model):
            looked_up = model.generate(prompt, prompt_lookup_num_tokens=3, **SETTINGS)
            assert torch.equal(looked_up, model.generate(prompt, **SETTINGS))
        else:
            with pytest.raises(ValueError, match="assisted generation is not supported with stateful models"):
                model.generate(prompt, prompt_lookup_num_tokens=3, **SETTINGS)


@cases
def test_an_assistant_changes_no_token_or_is_refused(case):
    assistant, main = case_model(case), case_model("softmax")
    # an assistant with the weights of another model is often wrong, so its tokens are taken back
    for prompt in PROMPTS:
        if can_crop(assistant):
            assert torch.equal(
                main.generate(prompt, assistant_model=assistant, **SETTINGS), main.generate(prompt, **SETTINGS)
            )
        else:
            with pytest.raises(ValueError, match="assistant model cannot take back tokens"):
                main.generate(prompt, assistant_model=assistant, **SETTINGS)


@cases
@pytest.mark.parametrize("padding", [0, 3])
def test_a_cropped_cache_continues_as_if_the_tokens_had_never_come(case, padding):
    model = case_model(case)
    if not can_crop(model):
        pytest.skip("the cache contains sums over tokens")
    rows = [random_tokens(1, 14)[0], random_tokens(1, 11, seed=2)[0]]
    tokens, mask = left_padded(rows, 14 + padding)
    start, wrong = 5 + padding, random_tokens(2, 4, seed=9)
    cache = DynamicCache(config=model.config)
    cache.activate_past_recording()
    with torch.no_grad():
        model(tokens[:, :start], attention_mask=mask[:, :start], past_key_values=cache)
        for size in (1, 4, 2):
            ones = torch.ones(2, size, dtype=torch.long)
            longer = torch.cat((mask[:, :start], ones), dim=1)
            model(wrong[:, :size], attention_mask=longer, past_key_values=cache)
            cache.crop(-size)
            assert cache.get_seq_length() == start
        cached = model(tokens[:, start:], attention_mask=mask, past_key_values=cache).logits
        whole = model(tokens, attention_mask=mask, use_cache=False).logits[:, start:]
    torch.testing.assert_close(cached, whole, rtol=0, atol=1e-10)


@cases
def test_a_cache_that_cannot_remove_tokens_says_so(case):
    model, cache = case_model(case), DynamicCache(config=case_model(case).config)
    model(random_tokens(1, 6), past_key_values=cache)
    keeps_a_window = model.config.canon_width or model.config.ngram_orders
    if not can_crop(model) or (keeps_a_window and "birthgpt_state" in model.config.layer_types):
        with pytest.raises(ValueError, match="start with a new cache"):
            cache.crop(-2)


def test_beams_follow_a_cache_that_records_its_past():
    for case in ("softmax-canon", "bigbird", "synthesizer-ngrams"):
        model, tokens = case_model(case), random_tokens(2, 9)
        cache = DynamicCache(config=model.config)
        cache.activate_past_recording()
        with torch.no_grad():
            model(tokens[:, :6], past_key_values=cache)
            cache.reorder_cache(torch.tensor([1, 0]))
            cache.crop(-1)
            cached = model(tokens[[1, 0], 5:], past_key_values=cache).logits
            whole = model(tokens[[1, 0]], use_cache=False).logits[:, 5:]
        torch.testing.assert_close(cached, whole, rtol=0, atol=1e-10)
