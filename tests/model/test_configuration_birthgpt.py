"""The configuration: defaults, what it refuses, and its way to disk and back."""

import pytest
from huggingface_hub.errors import StrictDataclassError

from birthgpt import BirthGPTConfig, BirthGPTForCausalLM


def test_defaults_are_the_assignments_model():
    model = BirthGPTForCausalLM(BirthGPTConfig(vocab_size=256, max_position_embeddings=128))
    width, layers, block = 256, 4, 128
    attention = 4 * (width * width + width)
    mlp = 2 * 4 * width * width + 4 * width + width
    norms = 2 * 2 * width
    expected = layers * (attention + mlp + norms) + 2 * 256 * width + block * width + 2 * width
    assert model.num_parameters() == expected
    assert (model.config.num_attention_heads, model.config.hidden_act) == (8, "gelu")


def test_round_trip_keeps_every_key(tmp_path):
    config = BirthGPTConfig(attention_type=["softmax"] * 4, qk_norm=True, rope_parameters={"rope_theta": 500.0})
    config.save_pretrained(tmp_path)
    assert BirthGPTConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_size": 100}, "hidden_size=100 is not a multiple of num_attention_heads=8"),
        ({"hidden_size": 24, "position_embedding_type": "rotary"}, "even width"),
        ({"norm_type": "rmsnrom"}, "did you mean 'rmsnorm'"),
        ({"position_embedding_type": "rotery"}, "did you mean 'rotary'"),
        ({"hidden_act": "gelo"}, "did you mean 'gelu'"),
        ({"attention_type": ["softmax"]}, "lists 1 types for num_hidden_layers=4"),
        ({"hidden_dropout": 1.0}, r"hidden_dropout=1.0: a dropout rate lies in \[0, 1\)"),
        ({"num_hidden_layers": 0}, "num_hidden_layers=0: it must be at least 1"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}}, "rope_type"),
        ({"hidden_size": "x"}, "hidden_size"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises((ValueError, StrictDataclassError), match=message):
        BirthGPTConfig(**settings)


def test_unknown_attention_type_is_named_when_the_model_is_built():
    with pytest.raises(ValueError, match="attention_type='sofmax' does not exist: did you mean 'softmax'"):
        BirthGPTForCausalLM(BirthGPTConfig(attention_type="sofmax"))
