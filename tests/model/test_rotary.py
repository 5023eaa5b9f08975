"""Rotary positions with the parameters of transformers, and settings that change after the construction."""

import pytest
import torch
from builders import CASES, ROTARY, case_config, case_model, random_tokens, seeded_model, tiny_config
from contract import check_decoding
from transformers import AutoConfig, AutoModelForCausalLM

from birthgpt import BirthGPTConfig, BirthGPTForCausalLM
from birthgpt.model.attention import ATTENTION_TYPES

SCALED = [
    {"rope_type": "linear", "factor": 8.0},
    {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 16},
    {"rope_theta": 10000.0, "partial_rotary_factor": 0.5},
]
# every type, and the one form of the synthesizer that has queries and keys
ROTATED = [*ATTENTION_TYPES, "synthesizer-alpha", "hybrid", "gated_deltanet-hybrid"]
IGNORES_POSITIONS = {"gated_deltanet", "synthesizer"}


@pytest.mark.parametrize("parameters", SCALED, ids=str)
@pytest.mark.parametrize("case", ROTATED)
def test_parameters_given_to_a_checkpoint_act_or_are_refused(case, parameters, tmp_path):
    model, tokens = case_model(case, torch.float32, **ROTARY, hidden_size=32), random_tokens(2, 40)
    model.save_pretrained(tmp_path)
    if case in IGNORES_POSITIONS:
        with pytest.raises(ValueError, match="have no effect"):
            BirthGPTForCausalLM.from_pretrained(tmp_path, rope_parameters=parameters)
        return
    loaded = BirthGPTForCausalLM.from_pretrained(tmp_path, rope_parameters=parameters).eval()
    built = BirthGPTForCausalLM(
        case_config(case, **ROTARY, hidden_size=32, rope_parameters={"rope_theta": 10000.0} | parameters)
    ).eval()
    built.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(loaded(tokens).logits, built(tokens).logits)
        assert (loaded(tokens).logits - model(tokens).logits).abs().max() > 1e-3


@pytest.mark.parametrize("parameters", SCALED, ids=str)
@pytest.mark.parametrize("case", sorted(set(ROTATED) - IGNORES_POSITIONS))
def test_decoding_with_scaled_angles_equals_the_full_forward(case, parameters):
    settings = {**ROTARY, "hidden_size": 32, "rope_parameters": parameters}
    check_decoding(case_model(case, **settings), [5, 1, 1, 9], padding=3, atol=1e-10)


def test_layers_of_different_settings_have_scaled_angles():
    settings = {**ROTARY, "rope_parameters": {"rope_type": "yarn", "factor": 2.0}}
    for case in ("linformer-of-two-windows", "hybrid-of-two-windows"):
        check_decoding(case_model(case, **settings), [5, 1, 1, 9], padding=3, atol=1e-10)


def test_a_checkpoint_keeps_its_base_of_the_angles_and_its_trained_length(tmp_path):
    model = seeded_model(tiny_config(rope_parameters={"rope_theta": 500.0}), torch.float32)
    model.save_pretrained(tmp_path)
    ways = {
        "rope_parameters": {"rope_type": "yarn", "factor": 8.0},
        "rope_scaling": {"type": "yarn", "factor": 8.0},
    }
    expected = {"rope_type": "yarn", "factor": 8.0, "rope_theta": 500.0, "original_max_position_embeddings": 64}
    for name, value in ways.items():
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path, max_position_embeddings=512, **{name: value})
        assert expected.items() <= loaded.config.rope_parameters.items()
        loaded.save_pretrained(tmp_path / name)
        again = BirthGPTForCausalLM.from_pretrained(tmp_path / name)
        tokens = random_tokens(1, 100)
        assert torch.equal(again.eval()(tokens).logits, loaded.eval()(tokens).logits)
    for name, value in {"rope_theta": 100.0, "partial_rotary_factor": 0.5}.items():
        config = AutoConfig.from_pretrained(tmp_path, **{name: value})
        assert config.rope_parameters == {"rope_type": "default", "rope_theta": 500.0} | {name: value}


REFUSED = [
    ({"rope_type": "dynamic", "factor": 2.0}, "rope_type='dynamic' is not supported: choose from default, linear"),
    ({"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}, "rope_type='longrope'"),
    ({"rope_type": "yarm", "factor": 2.0}, "rope_type='yarm' is not supported"),
    ({"factor": 2.0}, "rope_type='default' does not have factor"),
    ({"full_attention": {"rope_theta": 100.0}}, "does not have full_attention"),
    ({"rope_type": "linear"}, "Missing required keys.*factor"),
    ({"rope_type": "linear", "factor": "8"}, "factor='8' must be a positive number"),
    ({"rope_theta": float("nan")}, "rope_theta=nan must be a positive number"),
    ({"rope_theta": -1.0}, "rope_theta=-1.0 must be a positive number"),
    ({"partial_rotary_factor": 0.4}, "rotates 3 of 8 features"),
    ({"partial_rotary_factor": 1.5}, "rotates 12 of 8 features"),
]


@pytest.mark.parametrize(("parameters", "message"), REFUSED, ids=str)
def test_parameters_that_the_model_does_not_compute_are_refused_however_they_come(parameters, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        tiny_config(rope_parameters=dict(parameters))
    config = tiny_config()
    config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        BirthGPTForCausalLM(AutoConfig.from_pretrained(tmp_path, rope_parameters=dict(parameters)))
    config.rope_parameters.update(parameters)
    with pytest.raises(ValueError, match=message):
        BirthGPTForCausalLM(config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_attention_heads": 3}, "hidden_size=32 is not a multiple of num_attention_heads=3"),
        ({"attention_type": ["softmax"]}, "attention_type lists 1 types for num_hidden_layers=2"),
        ({"attention_type": "linformer", "linformer_window": 6}, "linformer_window=6 is not a multiple"),
        ({"attention_type": "sliding_softmax", "sliding_window": None}, "needs sliding_window"),
        ({"per_layer_config": {1: {"hidden_size": 64}}}, "hidden_size is not a setting of an attention type"),
        ({"ngram_orders": [1]}, r"ngram_orders=\[1\]"),
        ({"intermediate_size": None}, "intermediate_size=None"),
        ({"rope_parameters": None}, "rope_theta is missing"),
        ({"hidden_dropout": 2.0}, "hidden_dropout=2.0"),
    ],
    ids=str,
)
def test_a_setting_given_to_a_checkpoint_is_checked_as_in_a_construction(settings, message, tmp_path):
    model = seeded_model(tiny_config(), torch.float32)
    model.save_pretrained(tmp_path)
    for load in (BirthGPTForCausalLM.from_pretrained, AutoModelForCausalLM.from_pretrained):
        with pytest.raises(ValueError, match=message):
            load(tmp_path, **settings)


def test_one_configuration_builds_two_models():
    for case in CASES:
        config = case_config(case)
        assert type(BirthGPTForCausalLM(config)) is type(BirthGPTForCausalLM(config))
    shows = BirthGPTConfig(output_attentions=True)
    assert [BirthGPTForCausalLM(shows).config.output_attentions for _ in range(2)] == [True, True]
