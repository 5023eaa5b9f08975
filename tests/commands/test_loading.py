"""A folder is loaded as it was saved, or not at all: nothing is invented in the place of what is missing."""

import json
import random
import shutil

import pytest
import torch
from builders import case_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from birthgpt.cli import main
from birthgpt.commands.convert import ConvertSettings, convert
from birthgpt.commands.loading import load_model, load_model_and_tokenizer
from birthgpt.commands.push import PushSettings, export
from birthgpt.commands.run_metadata import read_run_metadata
from birthgpt.model.attention import ATTENTION_TYPES
from birthgpt.utils.folders import RECORD


def flip_bit(path, place: float = 0.5) -> None:
    """Change one bit of a file, `place` (0..1) of the way through it."""
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    path.write_bytes(content)


def save_weights(folder, weights) -> None:
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def edit_config(folder, **changes) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.fixture
def without_manifest(pretrained, tmp_path):
    """A model as transformers saves it."""
    folder = tmp_path / "plain"
    AutoModelForCausalLM.from_pretrained(pretrained).save_pretrained(folder)
    AutoTokenizer.from_pretrained(pretrained).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("case", [*ATTENTION_TYPES, "softmax-modern", "softmax-canon", "softmax-ngrams"])
def test_each_missing_weight_of_each_type_is_named(case, tmp_path):
    case_model(case, torch.float32).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    load_model(str(tmp_path))
    # the other layers have the same names
    for name in [name for name in weights if "layers." not in name or "layers.0." in name]:
        save_weights(tmp_path, {other: tensor for other, tensor in weights.items() if other != name})
        # a tied head is missing with the embedding
        with pytest.raises(ValueError, match=rf"do not fit its config.json: ({name} is missing$|lm_head.*1 more)"):
            load_model(str(tmp_path))


def test_unexpected_and_other_shapes_are_named(without_manifest):
    weights = load_file(without_manifest / "model.safetensors")
    name = "model.norm.weight"
    changes = {
        f"{name} is missing": {"model.norm.weighu": weights.pop(name)},
        "model.extra.weight is not a weight of this model": {name: torch.ones(32), "model.extra.weight": torch.ones(2)},
        f"{name} has another shape": {name: torch.ones(31)},
    }
    for fault, changed in changes.items():
        save_weights(without_manifest, weights | changed)
        with pytest.raises(ValueError, match=f"{fault}$"):
            load_model(str(without_manifest))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_weight_that_is_not_finite_is_named(value, without_manifest):
    weights = load_file(without_manifest / "model.safetensors")
    weights["model.norm.weight"][3] = value
    save_weights(without_manifest, weights)
    with pytest.raises(ValueError, match="model.norm.weight of .*plain is not finite"):
        load_model(str(without_manifest))


def test_a_flipped_bit_in_each_key_of_the_configuration_is_found(without_manifest):
    file = without_manifest / "config.json"
    config = json.loads(file.read_text())
    for key in config:
        flipped = key[:-1] + chr(ord(key[-1]) ^ 1)
        file.write_text(json.dumps({flipped if name == key else name: value for name, value in config.items()}))
        with pytest.raises(ValueError, match="plain.config.json cannot be used: ") as error:
            load_model(str(without_manifest))
        assert key == "model_type" or f"{flipped!r} is not a setting of the model" in str(error.value)
        assert "\n" not in str(error.value)


def test_weights_that_are_not_finite_numbers_are_named(without_manifest):
    weights = load_file(without_manifest / "model.safetensors")
    name = "model.norm.weight"
    infinite, whole = weights[name].clone(), weights[name].long()
    infinite[3] = float("inf")
    for changed, fault in ((infinite, f"{name} of .*plain is not finite"), (whole, f"{name} has the type I64")):
        save_weights(without_manifest, weights | {name: changed})
        with pytest.raises(ValueError, match=fault):
            load_model(str(without_manifest))
    # the tables of some attention types are whole numbers
    save_weights(without_manifest, weights)
    load_model(str(without_manifest))


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"])
def test_a_folder_with_an_adapter_is_refused(file, without_manifest):
    # with PEFT, transformers would read it, and fill in what is missing; without, it would pass over it
    (without_manifest / file).write_text("{}")
    with pytest.raises(ValueError, match=f"plain has an adapter, {file}: merge it .*merge_and_unload.* save that"):
        load_model(str(without_manifest))


def test_the_keys_that_other_programs_write_are_known(without_manifest):
    edit_config(without_manifest, auto_map={}, _name_or_path="x", torch_dtype="float32", per_layer_config={})
    load_model(str(without_manifest))


def test_only_a_model_that_was_saved_without_head_gets_a_new_one(without_manifest, tmp_path, caplog):
    model = AutoModelForCausalLM.from_pretrained(without_manifest)
    model.model.save_pretrained(tmp_path / "base")
    load_model(str(tmp_path / "base"))
    assert "base was saved without an output head: its head is new and untrained" in caplog.text
    weights = load_file(without_manifest / "model.safetensors")
    save_weights(without_manifest, {name: tensor for name, tensor in weights.items() if "lm_head" not in name})
    with pytest.raises(ValueError, match=r"lm_head.weight is missing"):
        load_model(str(without_manifest))
    # and nothing else of a base model may be missing
    weights = load_file(tmp_path / "base" / "model.safetensors")
    save_weights(tmp_path / "base", {name: tensor for name, tensor in weights.items() if name != "norm.weight"})
    with pytest.raises(ValueError, match="is missing"):
        load_model(str(tmp_path / "base"))


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(without_manifest):
    tokenizer = AutoTokenizer.from_pretrained(without_manifest)
    tokenizer.add_tokens(["xyzzy"])
    tokenizer.save_pretrained(without_manifest)
    with pytest.raises(ValueError, match=r"has \d+ tokens, but its model has \d+"):
        load_model_and_tokenizer(str(without_manifest))


def listed(folder) -> set[str]:
    return set(json.loads((folder / "manifest.json").read_text())["files"])


@pytest.fixture(params=["run", "export", "converted"])
def saved(request, pretrained, tmp_path):
    """A folder of each kind that this package writes, beside training checkpoints."""
    folder = tmp_path / "saved"
    if request.param == "run":
        shutil.copytree(pretrained, folder)
    elif request.param == "export":
        export(PushSettings(model_name_or_path=str(pretrained), output_dir=str(folder)))
    else:
        checkpoint = request.path.parents[1] / "checkpoints_0.1" / "abc"
        convert(ConvertSettings(model_name_or_path=str(checkpoint), output_dir=str(folder)))
    return folder


def test_a_flipped_bit_in_each_file_of_a_saved_model_is_found(saved):
    names = listed(saved)
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= names
    files = {path.name for path in saved.iterdir() if path.is_file()}
    not_listed = {"manifest.json", "settings.json", "inputs.json", "README.md", "expected.safetensors", RECORD}
    assert files - names <= not_listed
    load_model_and_tokenizer(str(saved))
    for name in sorted(names):
        content = (saved / name).read_bytes()
        flip_bit(saved / name)
        with pytest.raises(ValueError, match=rf"saved is damaged: {name} has changed .*: take another copy of it"):
            load_model_and_tokenizer(str(saved))
        (saved / name).write_bytes(content)
    (saved / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"model.safetensors is missing"):
        load_model_and_tokenizer(str(saved))


def test_what_a_user_changed_loads_after_the_manifest_is_removed(pretrained, tmp_path):
    folder = shutil.copytree(pretrained, tmp_path / "mine")
    edit_config(folder, hidden_dropout=0.25)
    with pytest.raises(ValueError, match=r"config.json has .*, or remove manifest.json if you changed it yourself$"):
        load_model(str(folder))
    (folder / "manifest.json").unlink()
    assert load_model(str(folder)).config.hidden_dropout == 0.25


TOO_DEEP = "[" * 100_000
BROKEN = {
    "not JSON": ("{{{", "is damaged: it is not JSON"),
    "empty": ("", "is damaged: it is not JSON"),
    "a list": ("[]", "is damaged: it contains list instead of an object"),
    "nested": (TOO_DEEP, "cannot be read: it is nested too deeply"),
}


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_file_that_is_not_a_json_object_is_named(name, broken, without_manifest):
    content, message = BROKEN[broken]
    (without_manifest / name).write_text(content)
    with pytest.raises(ValueError, match=f"plain/{name} {message}") as error:
        load_model_and_tokenizer(str(without_manifest))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("config.json", "hidden_size", "x"),
        ("config.json", "dtype", 3),
        ("config.json", "model_type", "bert2"),
        ("config.json", "rope_parameters", [1]),
        ("generation_config.json", "max_new_tokens", {}),
        ("generation_config.json", "pad_token_id", "□"),
        ("tokenizer.json", "normalizer", 3),
        ("tokenizer.json", "model", None),
        ("tokenizer_config.json", "eos_token", True),
        ("tokenizer_config.json", "model_max_length", [[]]),
        ("tokenizer_config.json", "model_input_names", 1e300),
        ("tokenizer_config.json", "mask_token", None),
    ],
)
def test_a_value_that_a_library_cannot_use_is_one_line_that_names_the_file(name, key, value, without_manifest):
    file = without_manifest / name
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(ValueError, match=name) as error:
        load_model_and_tokenizer(str(without_manifest))
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(without_manifest, tmp_path):
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        folder = shutil.copytree(without_manifest, tmp_path / f"without {name}")
        (folder / name).unlink()
        with pytest.raises(ValueError, match=rf"without {name}.*{name}"):
            load_model_and_tokenizer(str(folder))


@pytest.mark.parametrize("seed", range(40))
def test_random_damage_is_one_line_or_has_no_effect_on_loading(seed, without_manifest):
    rng = random.Random(seed)
    file = without_manifest / rng.choice(
        ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]
    )
    content = bytearray(file.read_bytes())
    # the header of the weights is at their beginning
    place = rng.randrange(min(len(content), 2000))
    content[place] ^= 1 << rng.randrange(8)
    file.write_bytes(content)
    try:
        load_model_and_tokenizer(str(without_manifest))
    except ValueError as error:
        assert "\n" not in str(error) and "plain" in str(error)


METADATA = {
    "tokens": ["many", -1, True, float("nan")],
    "seconds": [0, None, []],
    "settings": [None, [], {"model_name_or_path": 3}],
    "kind": [None, 7],
    "seed": [0.5, "0"],
}


@pytest.mark.parametrize("key", METADATA)
def test_a_broken_record_of_a_run_is_named(key, pretrained, tmp_path):
    record = json.loads((pretrained / "run.json").read_text())
    for value in METADATA[key]:
        (tmp_path / "run.json").write_text(json.dumps(record | {key: value}))
        with pytest.raises(ValueError, match=f"run.json is damaged: {key} is"):
            read_run_metadata(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ValueError, match=r"run.json is damaged: it is not JSON"):
        read_run_metadata(tmp_path)


COMMANDS = {
    "ask": "ask {model} Where?",
    "ensemble": "ensemble --model_names_or_paths {model} --question_file {questions} --output_dir {out}",
    "evaluate": "evaluate --model_name_or_path {model} --question_file {questions} --output_dir {out}",
    "finetune": "finetune --model_name_or_path {model} --train_file {questions} --output_dir {out} --max_train_steps 1 "
    "--tokens_per_batch 2000",
    "finetune, for the tokenizer": "finetune --tokenizer_name_or_path {model} --train_file {questions} "
    "--output_dir {out} --max_train_steps 1 --tokens_per_batch 2000",
    "probe": "probe --model_name_or_path {model} --question_file {questions} --corpus_file {lines} --output_dir {out}",
    "push": "push --model_name_or_path {model} --output_dir {out}",
    "verify": "verify {model}",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_a_damaged_model(command, pretrained, people_files, tmp_path, capsys):
    model = shutil.copytree(pretrained, tmp_path / "damaged")
    flip_bit(model / "model.safetensors", 0.9)
    places = {"model": model, "out": tmp_path / "out", "lines": people_files / "wiki.txt"}
    with pytest.raises(SystemExit) as exit_status:
        main(COMMANDS[command].format(**places, questions=people_files / "birth_places_train.tsv").split())
    assert exit_status.value.code == 2
    assert "damaged is damaged: model.safetensors has changed since it was written" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_verify_looks_at_a_run_and_its_checkpoints(people_files, pretrained, without_manifest, tmp_path, capsys):
    run = shutil.copytree(pretrained, tmp_path / "run")
    shutil.copytree(pretrained, run / "checkpoint-4", ignore=shutil.ignore_patterns("manifest.json", "checkpoint-*"))
    with pytest.raises(SystemExit):
        main(["verify", str(run)])
    assert "checkpoint-4 is not a checkpoint of a run, or is damaged: manifest.json" in capsys.readouterr().err
    shutil.rmtree(run / "checkpoint-4")
    main(["verify", str(run)])
    assert f"run: {len(listed(run))} files are as they were saved" in capsys.readouterr().out
    main(["verify", str(without_manifest)])
    assert "without a manifest, changed values are not found" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["verify", str(people_files)])
    assert "has no model" in capsys.readouterr().err


def test_a_folder_without_manifest_loads_as_it_was_saved(without_manifest, pretrained):
    assert not (without_manifest / "manifest.json").exists()
    model, _ = load_model_and_tokenizer(str(without_manifest))
    with safe_open(pretrained / "model.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("lm_head.weight"), model.lm_head.weight)
