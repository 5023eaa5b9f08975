"""The configuration: defaults, errors, saving and loading."""

import pytest

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
    rotary = {"position_embedding_type": "rotary", "rope_parameters": {"rope_theta": 500.0}}
    config = BirthGPTConfig(attention_type=["softmax"] * 4, qk_norm=True, **rotary)
    assert config.rope_parameters["rope_theta"] == 500
    config.save_pretrained(tmp_path)
    assert BirthGPTConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()


def test_learned_positions_have_no_rotary_parameters():
    saved = BirthGPTConfig().to_dict()
    assert saved["rope_parameters"] is None
    # a checkpoint of an earlier version has them
    saved["rope_parameters"] = {"rope_theta": 10000.0, "rope_type": "default"}
    assert BirthGPTConfig.from_dict(saved).rope_parameters is None
    with pytest.raises(ValueError, match="no effect on learned positions: set position_embedding_type to rotary"):
        BirthGPTConfig(rope_parameters={"rope_theta": 500.0})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_size": 100}, "hidden_size=100 is not a multiple of num_attention_heads=8"),
        ({"hidden_size": 24, "position_embedding_type": "rotary"}, "even width"),
        ({"norm_type": "rmsnrom"}, "did you mean 'rmsnorm'"),
        ({"position_embedding_type": "rotery"}, "did you mean 'rotary'"),
        ({"hidden_act": "gelo"}, "did you mean 'gelu'"),
        ({"attention_type": ["softmax"]}, "lists 1 types for num_hidden_layers=4"),
        ({"hidden_dropout": 1.0}, "hidden_dropout=1.0: it must be at least 0 and less than 1"),
        ({"num_hidden_layers": 0}, "num_hidden_layers=0: it must be at least 1"),
        ({"num_hidden_layers": 2**63}, "num_hidden_layers=9223372036854775808: .* at most 10000"),
        ({"hidden_size": "x"}, "hidden_size"),
        ({"dtype": "softmax"}, "dtype='softmax': expected a floating type"),
        ({"dtype": 3}, "dtype=3: expected a floating type"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        BirthGPTConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attention_type": "sofmax"}, "attention_type='sofmax' does not exist: did you mean 'softmax'"),
        ({"performer_kind": "posit"}, "performer_kind='posit' does not exist: did you mean 'positive'"),
        ({"performer_features": 0}, "performer_features=0: it must be at least 1"),
        ({"attention_type": "sliding_softmax"}, "needs sliding_window"),
        ({"attention_type": "linformer", "linformer_window": 20}, "linformer_window=20 is not a multiple of"),
        ({"per_layer_config": {1: {"hidden_size": 64}}}, "per_layer_config: hidden_size is not a setting of an att"),
        ({"per_layer_config": {"a": 1}}, "per_layer_config: 'a': 1 is not a layer with its settings"),
        ({"per_layer_config": {"a": {"sliding_window": 8}}}, "per_layer_config: 'a': .* is not a layer with its"),
        ({"per_layer_config": [1]}, r"per_layer_config=\[1\]: give settings by layer"),
        ({"per_layer_config": {1: {"performer_features": 0}}}, "performer_features=0: it must be at least 1"),
        (
            {"attention_type": "linformer", "per_layer_config": {3: {"linformer_window": 20}}},
            "linformer_window=20 is not a multiple of linformer_block=16",
        ),
    ],
)
def test_bad_settings_of_an_attention_type_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        BirthGPTConfig(**settings)


def test_layers_of_one_type_may_differ(tmp_path):
    config = BirthGPTConfig(attention_type="linformer", per_layer_config={2: {"linformer_window": 48}})
    model = BirthGPTForCausalLM(config)
    assert [layer.attention.window for layer in model.model.layers] == [2, 2, 3, 2]
    model.save_pretrained(tmp_path)
    loaded = BirthGPTForCausalLM.from_pretrained(tmp_path)
    assert [layer.attention.window for layer in loaded.model.layers] == [2, 2, 3, 2]


def test_a_value_is_checked_when_it_is_assigned():
    config = BirthGPTConfig()
    with pytest.raises(ValueError, match="hidden_dropout=1: it must be at least 0 and less than 1"):
        config.hidden_dropout = 1
