"""Checkpoints of version 0.1: `tests/checkpoints_0.1` contains small checkpoints with the logits of this version."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from birthgpt.commands.convert import ConvertSettings, convert
from birthgpt.commands.loading import load_tokenizer
from birthgpt.data.tokenizers import question_prompt

CHECKPOINTS = sorted((Path(__file__).parents[1] / "checkpoints_0.1").iterdir())
WITH_TOKENIZERS = [checkpoint for checkpoint in CHECKPOINTS if (checkpoint / "tokenizer.json").is_file()]
QUESTION = "Where was Ada Lovelace born?"


def assert_computes_as_before(folder, checkpoint):
    expected = load_file(checkpoint / "expected.safetensors")
    model = AutoModelForCausalLM.from_pretrained(folder)
    logits = model(input_ids=expected["input_ids"]).logits
    # another processor may round differently
    torch.testing.assert_close(logits, expected["logits"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=lambda path: path.name)
def test_a_converted_model_computes_as_before(checkpoint, tmp_path):
    folder = convert(ConvertSettings(model_name_or_path=str(checkpoint), output_dir=str(tmp_path / "new")))
    assert_computes_as_before(folder, checkpoint)
    shutil.copytree(checkpoint, tmp_path / "in_place")
    assert_computes_as_before(convert(ConvertSettings(model_name_or_path=str(tmp_path / "in_place"))), checkpoint)


@pytest.mark.parametrize("checkpoint", WITH_TOKENIZERS, ids=lambda path: path.name)
def test_a_converted_tokenizer_appends_nothing_and_prompts_as_before(checkpoint, tmp_path):
    folder = convert(ConvertSettings(model_name_or_path=str(checkpoint), output_dir=str(tmp_path / "new")))
    before, after = AutoTokenizer.from_pretrained(checkpoint), load_tokenizer(str(folder))
    assert before(QUESTION).input_ids == after(question_prompt(after, QUESTION)).input_ids
    assert after(QUESTION).input_ids == before(QUESTION).input_ids[:-1]
    assert after.decode(after(QUESTION).input_ids) == before.decode(before(QUESTION).input_ids[:-1]).removeprefix(" ")
    messages = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": "London"}]
    assert after.apply_chat_template(messages, tokenize=False) == f"{QUESTION}⁇London⁇"


@pytest.mark.parametrize("checkpoint", WITH_TOKENIZERS, ids=lambda path: path.name)
def test_an_earlier_tokenizer_beside_a_new_model_is_refused_and_converted(checkpoint, tmp_path):
    folder = convert(ConvertSettings(model_name_or_path=str(checkpoint), output_dir=str(tmp_path / "new")))
    converted = (folder / "tokenizer.json").read_bytes()
    for file in checkpoint.glob("tokenizer*"):
        shutil.copy(file, folder)
    # models of that version had no manifest
    (folder / "manifest.json").unlink()
    with pytest.raises(ValueError, match=f"appends tokens: .* `birthgpt convert {folder}`"):
        load_tokenizer(str(folder))
    convert(ConvertSettings(model_name_or_path=str(folder)))
    assert (folder / "tokenizer.json").read_bytes() == converted
    load_tokenizer(str(folder))
    assert_computes_as_before(folder, checkpoint)


def test_loading_an_earlier_checkpoint_tells_how_to_convert_it():
    with pytest.raises(ValueError, match="convert it by `birthgpt convert FOLDER`"):
        AutoModelForCausalLM.from_pretrained(CHECKPOINTS[0])


def test_settings_of_the_run_get_their_new_names(tmp_path):
    shutil.copytree(CHECKPOINTS[0], tmp_path / "old")
    old = {"kind": "pretraining", "target_share": 0.5, "settings": {"CorpusArguments": {"longest_run": 7}}}
    (tmp_path / "old" / "run.json").write_text(json.dumps(old))
    folder = convert(ConvertSettings(model_name_or_path=str(tmp_path / "old"), output_dir=str(tmp_path / "new")))
    metadata = json.loads((folder / "run.json").read_text())
    assert metadata == {"kind": "pretraining", "target_ratio": 0.5, "settings": {"max_span_words": 7}}


def test_a_folder_that_cannot_be_converted_is_unchanged(tmp_path):
    with pytest.raises(ValueError, match="is not a checkpoint$"):
        convert(ConvertSettings(model_name_or_path=str(tmp_path)))
    new = convert(ConvertSettings(model_name_or_path=str(CHECKPOINTS[0]), output_dir=str(tmp_path / "new")))
    before = (new / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match="not a checkpoint of an earlier version"):
        convert(ConvertSettings(model_name_or_path=str(new)))
    with pytest.raises(ValueError, match="exists: give another output_dir"):
        convert(ConvertSettings(model_name_or_path=str(CHECKPOINTS[0]), output_dir=str(new)))
    assert (new / "model.safetensors").read_bytes() == before


def test_a_checkpoint_is_converted_into_a_folder_inside_it(tmp_path):
    source = tmp_path / "old"
    shutil.copytree(CHECKPOINTS[0], source)
    (source / "plots").mkdir()
    # a link to itself would be followed for ever
    (source / "plots" / "back").symlink_to(source)
    target = source / "plots" / "new"
    convert(ConvertSettings(model_name_or_path=str(source), output_dir=str(target)))
    assert {path.name for path in CHECKPOINTS[0].iterdir()} <= {path.name for path in target.iterdir()}
    assert all(path.is_file() for path in target.iterdir())


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("config.json", lambda content: {key: value for key, value in content.items() if key != "linformer_kind"}),
        ("config.json", lambda content: content | {"perceiver_kind": "x"}),
        ("tokenizer.json", lambda content: content | {"decoder": None}),
        ("run.json", lambda content: {"settings": 3}),
    ],
)
def test_a_broken_file_is_named_and_nothing_is_converted(name, spoil, tmp_path):
    folder = shutil.copytree(CHECKPOINTS[0], tmp_path / "old")
    content = json.loads((folder / name).read_text()) if (folder / name).exists() else {}
    (folder / name).write_text(json.dumps(spoil(content)))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match=f"{name} cannot be used: ") as error:
        convert(ConvertSettings(model_name_or_path=str(folder)))
    assert "\n" not in str(error.value)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("in_place", [True, False])
def test_a_damaged_checkpoint_is_named_and_nothing_is_written(in_place, tmp_path):
    folder = shutil.copytree(CHECKPOINTS[0], tmp_path / "old")
    weights = load_file(folder / "model.safetensors")
    name = "model.layers.0.mlp_norm.weight"
    damaged = {
        "is missing": {key: tensor for key, tensor in weights.items() if key != name},
        "is not finite": weights | {name: torch.full_like(weights[name], float("nan"))},
    }
    given = {} if in_place else {"output_dir": str(tmp_path / "new")}
    for fault, changed in damaged.items():
        save_file(changed, folder / "model.safetensors", {"format": "pt"})
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        with pytest.raises(ValueError, match=f"{name} (of {folder} )?{fault}"):
            convert(ConvertSettings(model_name_or_path=str(folder), **given))
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
        assert [path.name for path in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_half_a_tokenizer_is_refused(name, tmp_path):
    folder = shutil.copytree(WITH_TOKENIZERS[0], tmp_path / "old")
    (folder / name).unlink()
    with pytest.raises(ValueError, match=name):
        convert(ConvertSettings(model_name_or_path=str(folder)))
