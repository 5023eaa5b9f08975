"""Settings: command line over file over default, and a mistake is named before anything runs."""

import dataclasses

import pytest

from birthgpt import BirthGPTConfig
from birthgpt.training.arguments import (
    FINETUNE_ARGUMENTS,
    PRETRAIN_ARGUMENTS,
    ModelArguments,
    OptimizationArguments,
    RunArguments,
    field_names,
    parse_arguments,
)

REQUIRED = ["--train_file", "a.txt", "--output_dir", "out", "--max_train_steps", "3", "--tokens_per_batch", "99"]


def config_file(tmp_path, text: str) -> str:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_command_line_wins_over_file_and_file_over_default(tmp_path):
    config = config_file(tmp_path, "learning_rate: 2e-3\nhidden_size: 64\nqk_norm: true\nseed: 5\n")
    _, _, model, optimization, run = parse_arguments(
        PRETRAIN_ARGUMENTS, [*REQUIRED, "--config", config, "--seed", "7", "--hidden_size=32"]
    )
    assert (optimization.learning_rate, model.hidden_size, model.qk_norm) == (2e-3, 32, True)
    assert (run.seed, model.num_hidden_layers) == (7, 4)


@pytest.mark.parametrize(("text", "value"), [("6e-3", 6e-3), ("1e5", 1e5), ("0.1", 0.1), ("'2e-4'", 2e-4)])
def test_numbers_of_a_file_are_numbers(tmp_path, text, value):
    config = config_file(tmp_path, f"learning_rate: {text}\nmax_train_flops: {text}\n")
    arguments = [a for a in REQUIRED if a not in ("--max_train_steps", "3")]
    optimization = parse_arguments(PRETRAIN_ARGUMENTS, [*arguments, "--config", config])[3]
    assert optimization.learning_rate == optimization.max_train_flops == value


def test_lists_and_nulls_of_a_file(tmp_path):
    config = config_file(tmp_path, "attention_type: [softmax, softmax]\nname_column: null\nmlp_bias: false\n")
    corpus, _, model, _, _ = parse_arguments(PRETRAIN_ARGUMENTS, [*REQUIRED, "--config", config])
    assert model.attention_type == ["softmax", "softmax"]
    assert corpus.name_column is None and model.mlp_bias is False


def test_a_list_may_be_empty(tmp_path):
    config = config_file(tmp_path, "ngram_orders: [2, 3]\n")
    assert parse_arguments(PRETRAIN_ARGUMENTS, [*REQUIRED, "--config", config, "--ngram_orders"])[2].ngram_orders == []
    config = config_file(tmp_path, "ngram_orders: []\n")
    assert parse_arguments(PRETRAIN_ARGUMENTS, [*REQUIRED, "--config", config])[2].ngram_orders == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat: 1", "'learning_rat' is no setting of this script; did you mean 'learning_rate'"),
        ("model:\n  hidden_size: 3", "'model' is no setting"),
        ("hidden_size: {a: 3}", "hidden_size holds a mapping"),
        ("on: 1", "True is no setting"),
        ("- a\n- b", "expected one `key: value` a line"),
        ("a: [", "is not YAML"),
        ("hidden_size: wide", "argument --hidden_size.*: invalid int value: 'wide'"),
        ("max_train_flops: 1e9", "exactly one of max_train_steps, num_train_epochs, max_train_flops"),
        ("per_device_train_batch_size: 4", "exactly one of tokens_per_batch and per_device_train_batch_size"),
        ("learning_rate: -1", "learning_rate=-1.0: it must be greater than 0"),
    ],
)
def test_a_bad_file_is_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        parse_arguments(PRETRAIN_ARGUMENTS, [*REQUIRED, "--config", config_file(tmp_path, text)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--warmup_steps -5", "warmup_steps=-5: it must be at least 0"),
        ("--max_grad_norm -1", "max_grad_norm=-1.0: it must be at least 0"),
        ("--weight_decay -1", "weight_decay=-1.0: it must be at least 0"),
        ("--shuffle false", "shuffle=false: batches of like length"),
        ("--config a.yaml --config b.yaml", "--config is given twice"),
    ],
)
def test_settings_that_would_do_harm_or_nothing_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        parse_arguments(PRETRAIN_ARGUMENTS, [*REQUIRED, *arguments.split()])


def test_a_missing_file_an_unknown_flag_and_a_missing_setting_are_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere.yaml: there is no such configuration file"):
        parse_arguments(PRETRAIN_ARGUMENTS, ["--config", "nowhere.yaml"])
    with pytest.raises(ValueError, match="command line: 'sed' is no setting of this script; did you mean 'seed'"):
        parse_arguments(PRETRAIN_ARGUMENTS, [*REQUIRED, "--sed", "1"])
    with pytest.raises(ValueError, match="required: --train_file"):
        parse_arguments(PRETRAIN_ARGUMENTS, REQUIRED[2:])


@pytest.mark.parametrize("argument_classes", [PRETRAIN_ARGUMENTS, FINETUNE_ARGUMENTS])
def test_every_setting_has_one_name_and_its_help(argument_classes, capsys):
    names = field_names(argument_classes)
    assert len(names) == len(set(names))
    with pytest.raises(SystemExit):
        parse_arguments(argument_classes, ["--help"])
    shown = capsys.readouterr().out
    assert all(f"--{name}" in shown for name in names)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"report_to": "tensorbord"}, "report_to='tensorbord' does not exist: choose tensorboard, trackio, wandb"),
        ({"logging_steps": 0}, "logging_steps=0: it must be at least 1"),
        ({"save_total_limit": 0}, "save_total_limit=0: it must be at least 1"),
        ({"save_steps": -1}, "save_steps=-1: it must be at least 0"),
        ({"dataloader_num_workers": -1}, "dataloader_num_workers=-1: it must be at least 0"),
    ],
)
def test_settings_of_a_run_that_mean_nothing_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        RunArguments(output_dir="runs", **settings)


def test_a_tracker_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr("birthgpt.training.arguments.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="report_to=wandb needs its package: pip install wandb"):
        RunArguments(output_dir="runs", with_tracking=True, report_to="wandb")
    RunArguments(output_dir="runs", report_to="wandb")


def test_a_precision_that_does_not_exist_is_named():
    with pytest.raises(ValueError, match="mixed_precision='fp16' does not exist: choose no or bf16"):
        OptimizationArguments(max_train_steps=1, tokens_per_batch=8, mixed_precision="fp16")


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_an_average_that_forgets_nothing_or_everything_is_refused(decay):
    with pytest.raises(ValueError, match=f"ema_decay={decay}"):
        OptimizationArguments(max_train_steps=1, tokens_per_batch=8, ema_decay=decay)


def test_budget_and_batch_must_be_given():
    with pytest.raises(ValueError, match="not none"):
        OptimizationArguments(tokens_per_batch=5)


def test_every_setting_of_a_model_can_be_given_and_means_the_same_by_default():
    built = {"vocab_size", "max_position_embeddings", "layer_norm_eps", "use_cache", "rope_parameters"}
    built |= {"pad_token_id", "bos_token_id", "eos_token_id"}
    own = set(BirthGPTConfig.__annotations__) - {"model_type", "keys_to_ignore_at_inference"}
    given = {field.name: getattr(ModelArguments(), field.name) for field in dataclasses.fields(ModelArguments)}
    assert own - built == set(given) - {"rope_theta", "attn_implementation", "gradient_checkpointing"}
    config = BirthGPTConfig()
    for name in own - built - {"attention_type", "intermediate_size"}:
        assert getattr(config, name) == given[name], name
    assert config.attention_types[:1] == given["attention_type"]
