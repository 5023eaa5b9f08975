"""Logits depend on token ids alone: not on their integer type, nor on the special tokens that others set."""

import json

import pytest
import torch
from builders import CASES, case_config, case_model, random_tokens
from transformers import AutoModelForCausalLM, DynamicCache

from birthgpt import BirthGPTForCausalLM

cases = pytest.mark.parametrize("case", CASES)
INTEGERS = [torch.int32, torch.int16, torch.int8, torch.uint8]
OTHER_TOKENS = {"pad_token_id": 5, "bos_token_id": 6, "eos_token_id": [7, 8]}


@cases
@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integers_of_any_type_give_the_same_logits_and_loss(case, dtype):
    model, tokens = case_model(case), random_tokens(2, 12)
    positions, mask = torch.arange(12)[None], torch.ones(2, 12, dtype=torch.long)
    with torch.no_grad():
        expected = model(tokens, labels=tokens, use_cache=False)
        outputs = model(tokens.to(dtype), labels=tokens.to(dtype), position_ids=positions.to(dtype), use_cache=False)
        assert torch.equal(outputs.logits, expected.logits) and torch.equal(outputs.loss, expected.loss)
        masked = model(tokens.to(dtype), attention_mask=mask.to(dtype)).logits
        torch.testing.assert_close(masked, expected.logits, rtol=0, atol=1e-10)
        cache = DynamicCache(config=model.config)
        parts = [model(part.to(dtype), past_key_values=cache).logits for part in tokens.split([7, 1, 4], dim=1)]
        torch.testing.assert_close(torch.cat(parts, dim=1), expected.logits, rtol=0, atol=1e-10)


def test_large_ids_of_32_bits_have_the_ngrams_of_64_bits():
    model = case_model("softmax-ngrams", vocab_size=60_000)
    tokens = random_tokens(2, 12, vocab_size=60_000)
    with torch.no_grad():
        assert torch.equal(model(tokens.int()).logits, model(tokens).logits)


def test_ids_that_are_no_integers_are_refused():
    for dtype in (torch.float32, torch.bool):
        with pytest.raises(ValueError, match=f"input_ids must be integers, not {dtype}"):
            case_model("softmax")(torch.ones(1, 3, dtype=dtype))


@cases
def test_special_tokens_that_change_after_building_change_no_logit(case, tmp_path):
    model, tokens = case_model(case, torch.float32), torch.arange(24).reshape(2, 12)
    with torch.no_grad():
        expected = model(tokens).logits
        for name, token in OTHER_TOKENS.items():
            setattr(model.config, name, token)
        assert torch.equal(model(tokens).logits, expected)
        model.save_pretrained(tmp_path)
        for given in ({}, {"pad_token_id": 9, "eos_token_id": 10}):
            loaded = AutoModelForCausalLM.from_pretrained(tmp_path, **given).eval()
            assert torch.equal(loaded(tokens).logits, expected)
            loaded.save_pretrained(tmp_path / "again")
            again = AutoModelForCausalLM.from_pretrained(tmp_path / "again").eval()
            assert torch.equal(again(tokens).logits, expected)


def test_ngrams_of_an_older_checkpoint_pass_over_its_own_special_tokens(tmp_path):
    model, tokens = case_model("softmax-ngrams", torch.float32), torch.arange(24).reshape(2, 12)
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    del saved["ngram_special_token_ids"]
    (tmp_path / "config.json").write_text(json.dumps(saved))
    loaded = BirthGPTForCausalLM.from_pretrained(tmp_path, **OTHER_TOKENS).eval()
    assert loaded.config.ngram_special_token_ids == [0, 1]
    with torch.no_grad():
        assert torch.equal(loaded(tokens).logits, model(tokens).logits)


def test_special_tokens_of_ngrams_are_a_setting_of_their_own():
    settings = {"ngram_orders": [2], "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": [1, 3]}
    assert case_config("softmax", **settings).ngram_special_token_ids == [0, 2, 1, 3]
    assert case_config("softmax", **settings, ngram_special_token_ids=[4]).ngram_special_token_ids == [4]
    assert case_config("softmax", **settings, ngram_special_token_ids=[]).ngram_special_token_ids == []
