"""Settings: the command line overrides the file, the file overrides defaults, and errors name the setting."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
import yaml
from builders import training_settings

from birthgpt.cli import COMMANDS, find_command
from birthgpt.commands.finetune import FinetuneSettings
from birthgpt.commands.pretrain import PretrainSettings
from birthgpt.settings import (
    CONFIGS,
    checked,
    declared_settings,
    find_config,
    flatten_settings,
    make_settings,
    parse_settings,
    read_config,
    setting,
)
from birthgpt.training.callbacks import LoggingSettings
from birthgpt.training.optimizers import OptimizerSettings
from birthgpt.utils.strict_yaml import load_yaml

REQUIRED = ["--train_file", "a.txt", "--output_dir", "out", "--max_train_steps", "3", "--tokens_per_batch", "99"]


def config_file(tmp_path, text: str) -> str:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_command_line_overrides_the_file_and_the_file_overrides_defaults(tmp_path):
    config = config_file(tmp_path, "learning_rate: 2e-3\nhidden_size: 64\nqk_norm: true\nseed: 5\n")
    found = parse_settings(PretrainSettings, [*REQUIRED, "--config", config, "--seed", "7", "--hidden_size=32"])
    assert (found.training.optimizer.learning_rate, found.model.hidden_size, found.model.qk_norm) == (2e-3, 32, True)
    assert (found.training.run.seed, found.model.num_hidden_layers) == (7, 4)


def test_no_other_file_is_read(tmp_path, monkeypatch):
    (tmp_path / "pretrain.args").write_text("--seed 9")
    monkeypatch.setattr("sys.argv", [str(tmp_path / "pretrain.py"), *REQUIRED])
    assert parse_settings(PretrainSettings).training.run.seed == 0


def test_a_file_overrides_the_file_that_it_names_as_defaults(tmp_path):
    (tmp_path / "base.yaml").write_text("learning_rate: 2e-3\nhidden_size: 64\nqk_norm: true\n")
    config = config_file(tmp_path, "defaults: base.yaml\nhidden_size: 32\n")
    found = parse_settings(PretrainSettings, [*REQUIRED, "--config", config, "--learning_rate", "5e-3"])
    assert (found.training.optimizer.learning_rate, found.model.hidden_size, found.model.qk_norm) == (5e-3, 32, True)


def test_defaults_may_have_defaults_of_their_own(tmp_path):
    (tmp_path / "first.yaml").write_text("seed: 1\nhidden_size: 64\nqk_norm: true\n")
    (tmp_path / "second.yaml").write_text("defaults: first.yaml\nseed: 2\nhidden_size: 48\n")
    config = config_file(tmp_path, "defaults: second.yaml\nhidden_size: 32\n")
    assert read_config(config) == {"seed": 2, "hidden_size": 32, "qk_norm": True}


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (None, "defaults: there is no file .*base.yaml"),
        ("defaults: run.yaml", "base.yaml: defaults: .*run.yaml needs this file for its own defaults"),
        ("defaults: base.yaml", "base.yaml: defaults: .*base.yaml needs this file for its own defaults"),
    ],
)
def test_defaults_that_cannot_be_read_are_named(tmp_path, base, message):
    if base is not None:
        (tmp_path / "base.yaml").write_text(base)
    with pytest.raises(ValueError, match=message):
        parse_settings(PretrainSettings, [*REQUIRED, "--config", config_file(tmp_path, "defaults: base.yaml")])


def test_a_configuration_of_the_package_is_found_by_its_name():
    path = find_config("quickstart/pretrain")
    assert path.is_file() and path == find_config("quickstart/pretrain.yaml") == find_config(
        "configs/quickstart/pretrain"
    )
    with pytest.raises(ValueError, match="wiki/finetun: there is no such .* did you mean 'wiki/finetune'"):
        find_config("wiki/finetun")


@pytest.mark.parametrize(("text", "value"), [("6e-3", 6e-3), ("1e5", 1e5), ("0.1", 0.1), ("'2e-4'", 2e-4)])
def test_numbers_of_a_file_are_numbers(tmp_path, text, value):
    config = config_file(tmp_path, f"learning_rate: {text}\nmax_train_flops: {text}\n")
    arguments = [a for a in REQUIRED if a not in ("--max_train_steps", "3")]
    found = flatten_settings(parse_settings(PretrainSettings, [*arguments, "--config", config]))
    assert found["learning_rate"] == found["max_train_flops"] == value


def test_lists_and_nulls_of_a_file(tmp_path):
    config = config_file(tmp_path, "attention_type: [softmax, softmax]\nname_column: null\nmlp_bias: false\n")
    found = parse_settings(PretrainSettings, [*REQUIRED, "--config", config])
    assert found.model.attention_type == ["softmax", "softmax"]
    assert found.corpus.name_column is None and found.model.mlp_bias is False


def test_mappings_of_a_file_and_of_the_command_line(tmp_path):
    text = "rope_parameters: {rope_theta: 500.0}\nper_layer_config:\n  2:\n    sliding_window: 8\n"
    model = parse_settings(PretrainSettings, [*REQUIRED, "--config", config_file(tmp_path, text)]).model
    assert (model.rope_parameters, model.per_layer_config) == ({"rope_theta": 500.0}, {2: {"sliding_window": 8}})
    given = ["--per_layer_config", "{1: {sliding_window: 4}}"]
    model = parse_settings(PretrainSettings, [*REQUIRED, "--config", config_file(tmp_path, text), *given]).model
    assert model.per_layer_config == {1: {"sliding_window": 4}}


def test_a_list_may_be_empty(tmp_path):
    config = config_file(tmp_path, "ngram_orders: [2, 3]\n")
    found = parse_settings(PretrainSettings, [*REQUIRED, "--config", config, "--ngram_orders"])
    assert found.model.ngram_orders == []
    config = config_file(tmp_path, "ngram_orders: []\n")
    assert parse_settings(PretrainSettings, [*REQUIRED, "--config", config]).model.ngram_orders == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat: 1", "'learning_rat' is not a setting of this command; did you mean 'learning_rate'"),
        ("model:\n  hidden_size: 3", "'model' is not a setting"),
        ("hidden_size: {a: 3}", "hidden_size is a mapping"),
        ("on: 1", "line 1: on is a truth value in YAML"),
        ("hidden_size: 8\nseed: 1\nhidden_size: 16", "run.yaml: line 3: 'hidden_size' is given twice"),
        ("hidden_size: 0100", "line 1: 0100 is another number in YAML"),
        ("per_layer_config: {1: {sliding_window: 8, sliding_window: 9}}", "line 1: 'sliding_window' is given twice"),
        ("- a\n- b", "expected one `key: value` per line"),
        ("a: [", "this is not YAML"),
        ("hidden_size: wide", "argument --hidden_size.*: invalid int value: 'wide'"),
        ("max_train_flops: 1e9", "exactly one of max_train_steps, num_train_epochs, max_train_flops"),
        ("per_device_train_batch_size: 4", "exactly one of tokens_per_batch and per_device_train_batch_size"),
        ("learning_rate: -1", "learning_rate=-1.0: it must be greater than 0"),
    ],
)
def test_a_bad_file_is_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        parse_settings(PretrainSettings, [*REQUIRED, "--config", config_file(tmp_path, text)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--warmup_steps -5", "warmup_steps=-5: it must be at least 0"),
        ("--max_grad_norm -1", "max_grad_norm=-1.0: it must be at least 0"),
        ("--weight_decay -1", "weight_decay=-1.0: it must be at least 0"),
        ("--shuffle false", "shuffle=false: batches of similar length"),
        ("--config a.yaml --config b.yaml", "--config is given twice"),
    ],
)
def test_harmful_or_useless_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        parse_settings(PretrainSettings, [*REQUIRED, *arguments.split()])


def test_a_missing_file_an_unknown_flag_and_a_missing_setting_are_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere.yaml: there is no such configuration file"):
        parse_settings(PretrainSettings, ["--config", "nowhere.yaml"])
    with pytest.raises(ValueError, match="command line: 'sed' is not a setting of this command; did you mean 'seed'"):
        parse_settings(PretrainSettings, [*REQUIRED, "--sed", "1"])
    with pytest.raises(ValueError, match="required: --train_file"):
        parse_settings(PretrainSettings, REQUIRED[2:])


@pytest.mark.parametrize("command", COMMANDS)
def test_every_setting_has_one_name_and_its_help(command, capsys):
    # declared_settings asserts that no name is declared twice
    declared = declared_settings(find_command(command).settings)
    assert all(entry.metadata["help"] for entry in declared.values())
    with pytest.raises(SystemExit):
        parse_settings(find_command(command).settings, ["--help"])
    shown = capsys.readouterr().out
    assert all(f"--{name}" in shown for name in declared)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"report_to": "tensorbord"}, "report_to='tensorbord' does not exist: did you mean 'tensorboard'"),
        ({"logging_steps": 0}, "logging_steps=0: it must be at least 1"),
        ({"save_total_limit": 0}, "save_total_limit=0: it must be at least 1"),
        ({"save_steps": -1}, "save_steps=-1: it must be at least 0"),
        ({"dataloader_num_workers": -1}, "dataloader_num_workers=-1: it must be at least 0"),
        ({"mixed_precision": "fp16"}, "mixed_precision='fp16' does not exist: did you mean 'bf16'"),
        ({"ema_decay": 1.0}, "ema_decay=1.0: it must be at least 0 and less than 1"),
        ({"ema_decay": -0.1}, "ema_decay=-0.1: it must be"),
        ({"learning_rate": "fast"}, "learning_rate='fast': expected float | int, not str"),
        ({"max_train_steps": None}, "give exactly one of .*, not none"),
        ({"lr_scheduler_type": "assignment_cosine"}, "needs lr_cycle_steps, its half-period"),
        ({"learning_rat": 1}, "'learning_rat' is not a setting of this command; did you mean 'learning_rate'"),
    ],
)
def test_wrong_values_are_named(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        training_settings(tmp_path, **settings)


def test_a_tracker_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr("birthgpt.training.callbacks.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="report_to=wandb needs its package: pip install wandb"):
        LoggingSettings(with_tracking=True, report_to="wandb")
    LoggingSettings(report_to="wandb")


def test_a_setting_that_must_be_given_is_named():
    with pytest.raises(ValueError, match="FinetuneSettings: train_file must be given: questions with answers"):
        make_settings(FinetuneSettings, max_train_steps=1)


def test_a_value_is_checked_when_it_is_assigned():
    settings = OptimizerSettings()
    settings.learning_rate = 0.5
    with pytest.raises(ValueError, match="learning_rate=-1: it must be greater than 0"):
        settings.learning_rate = -1


def test_flattened_settings_are_the_given_values():
    @checked
    @dataclass(kw_only=True)
    class Inner:
        width: int = setting(3, "how wide", min=1)

    @checked
    @dataclass(kw_only=True)
    class Outer:
        inner: Inner
        name: str = setting(help="how it is called")

    made = make_settings(Outer, name="x", width=5)
    assert (made.inner.width, flatten_settings(made)) == (5, {"width": 5, "name": "x"})
    assert flatten_settings(parse_settings(Outer, ["--name", "x"])) == {"width": 3, "name": "x"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("command", COMMANDS)
def test_no_number_of_any_command_may_be_infinite_or_nan(command, value):
    for name, entry in declared_settings(find_command(command).settings).items():
        if "float" in str(entry.type):
            for given in [[0.5, value]] if "list" in str(entry.type) else [value]:
                with pytest.raises(ValueError, match="must be finite"):
                    for validator in entry.metadata["validator"]:
                        validator(given)
                    pytest.fail(name)


@pytest.mark.parametrize(
    "text",
    ["010", "-010", "0x1F", "0b101", "1:30", "1:30.5", "0o17", "yes", "No", "on", "OFF", "{a: 1, a: 1}", "[&x 1, *x]"],
)
def test_what_has_two_meanings_in_yaml_is_refused_with_its_line(text):
    quoted = f"a: 1\nb: '{text}'"
    assert load_yaml(quoted) == {"a": 1, "b": text}
    if text == "0o17":
        # this form is a number in YAML 1.2 alone, and text here
        assert load_yaml(f"a: 1\nb: {text}") == {"a": 1, "b": text}
        return
    with pytest.raises(ValueError, match="^line 2: "):
        load_yaml(f"a: 1\nb: {text}")


@pytest.mark.parametrize("path", sorted(path for folder in CONFIGS for path in folder.rglob("*.yaml")), ids=str)
def test_the_configurations_read_as_any_reader_of_yaml_reads_them(path):
    text = path.read_text()
    assert load_yaml(text) == yaml.safe_load(text)


@pytest.mark.parametrize("text", ["null", "~", "1_000", "-5", "0", "1.50", "1e-3", "2024-01-01", "true", "FALSE", "[]"])
def test_what_has_one_meaning_is_read_as_usual(text):
    assert load_yaml(f"a: {text}") == yaml.safe_load(f"a: {text}")


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x,x,x,x,x,x,x,x]\n"
        + "\n".join(f"{b}: &{b} [{','.join(f'*{a}' for _ in range(9))}]" for a, b in pairwise("abcdefghi")),
        "[" * 100_000,
        "{a: " * 5_000,
    ],
    ids=["aliases", "lists", "mappings"],
)
def test_yaml_that_grows_or_nests_without_end_is_refused(text):
    with pytest.raises(ValueError):
        load_yaml(text)


def test_a_mapping_of_the_command_line_is_read_as_strictly():
    for text, message in {"{1: {a: 010}}": "another number", "3": "'3' is not a mapping"}.items():
        with pytest.raises(ValueError, match=f"argument --per_layer_config.*{message}"):
            parse_settings(PretrainSettings, [*REQUIRED, "--per_layer_config", text])
