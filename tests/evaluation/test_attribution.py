"""Attributions equal finite differences, and attention maps are the weights of the model, for every attention type."""

import pytest
import torch
from builders import QUESTION, SIZES

from birthgpt import (
    BirthGPTConfig,
    BirthGPTEncoderDecoderConfig,
    BirthGPTForCausalLM,
    BirthGPTForConditionalGeneration,
)
from birthgpt.evaluation.attribution import attention_of_question, attribute_answer
from birthgpt.evaluation.scoring import score_answers
from birthgpt.model.attention import ATTENTION_TYPES

WITH_WEIGHTS = {"softmax", "sliding_softmax", "synthesizer"}


def build(name, tokenizer, **more):
    given = SIZES | {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, "attention_type": name}
    given |= {"pad_token_id": tokenizer.pad_token_id} | more
    torch.manual_seed(3)
    return BirthGPTForCausalLM(BirthGPTConfig(**given)).double().eval()


def log_probability(model, tokenizer, answer):
    return score_answers(model, tokenizer, [QUESTION + tokenizer.mask_token], [answer])[0].log_probability


@pytest.mark.parametrize("name", ATTENTION_TYPES)
@pytest.mark.parametrize("ngrams", [None, [2]], ids=["tokens", "ngrams"])
def test_an_attribution_is_the_slope_of_the_log_probability(name, ngrams, characters):
    model = build(name, characters, ngram_orders=ngrams, ngram_vocab_size=50)
    found = attribute_answer(model, characters, QUESTION, "London")
    assert "".join(found.tokens) == QUESTION
    modules = [model.model.embed_tokens] + ([model.model.embed_ngrams] if ngrams else [])
    for place in (10, 14):

        def scaled(factor, place=place):
            def scale(module, given, output):
                return torch.cat((output[:, :place], factor * output[:, place : place + 1], output[:, place + 1 :]), 1)

            hooks = [module.register_forward_hook(scale) for module in modules]
            try:
                return log_probability(model, characters, "London")
            finally:
                [hook.remove() for hook in hooks]

        step = 1e-3
        # scores are computed in single precision
        slope = (scaled(1 + step) - scaled(1 - step)) / (2 * step)
        assert found.values[place] == pytest.approx(slope, abs=5e-3, rel=0.05)


@pytest.mark.parametrize("name", ATTENTION_TYPES)
def test_an_attention_map_is_what_the_answering_token_reads(name, characters):
    model = build(name, characters)
    before = model.config._attn_implementation
    found = attention_of_question(model, characters, QUESTION)
    assert model.config._attn_implementation == before and len(found.layers) == model.config.num_hidden_layers
    assert found.tokens[-1] == characters.mask_token
    for weights in found.layers:
        if weights is not None:
            assert len(weights) == len(found.tokens) and sum(weights) == pytest.approx(1, abs=1e-4)
    if name in WITH_WEIGHTS:
        assert None not in found.layers and found.missing == ""
    else:
        assert (None in found.layers) == bool(found.missing) and (not found.missing or name in found.missing)


def test_the_tokens_are_the_text_of_the_question(bpe):
    model = build("softmax", bpe)
    question = "Where was Émilie 🧠 du  Châtelet born?"
    found = attribute_answer(model, bpe, question, "Paris")
    assert "".join(found.tokens) == question and len(found.tokens) == len(bpe(question)["input_ids"])


def test_the_encoder_of_a_pair_is_attributed_and_read(characters):
    given = {**SIZES, "vocab_size": len(characters), "eos_token_id": characters.eos_token_id}
    config = BirthGPTEncoderDecoderConfig(
        **(given | {"pad_token_id": characters.pad_token_id, "decoder_start_token_id": characters.mask_token_id})
    )
    model = BirthGPTForConditionalGeneration(config).double().eval()
    found = attribute_answer(model, characters, QUESTION, "Paris")
    assert "".join(found.tokens) == QUESTION and any(found.values)
    seen = attention_of_question(model, characters, QUESTION)
    assert "".join(seen.tokens) == QUESTION
    assert all(weights is None or sum(weights) == pytest.approx(1, abs=1e-4) for weights in seen.layers)
