"""The export runs without birthgpt installed."""

import json
from types import SimpleNamespace

import pytest
import torch
from builders import CASES, case_model, random_tokens, run_without_package
from transformers import AutoModelForCausalLM, AutoTokenizer

from birthgpt.commands import push
from birthgpt.commands.push import PushSettings, add_code, export

# -S leaves out the .pth file by which the package is installed; the other packages are named one by one
WITHOUT_PACKAGE = """
import sys
sys.path += {paths!r}
try:
    import birthgpt
    sys.exit("birthgpt must not be importable here")
except ModuleNotFoundError:
    pass
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, pipeline
folder = {folder!r}
config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
base = AutoModel.from_pretrained(folder, trust_remote_code=True)
model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained(folder)
assert type(base).__name__ == "BirthGPTModel", type(base)
inputs = tokenizer("Where was Ada born?", return_tensors="pt")
assert torch.equal(base(**inputs).last_hidden_state, model(**inputs, output_hidden_states=True).hidden_states[-1])
ask = pipeline("text-generation", model=model, tokenizer=tokenizer)
ask("Where was Ada born?", return_full_text=False)
torch.save(model(**inputs).logits, {logits!r})
"""

EVERY_TYPE_WITHOUT_PACKAGE = """
import sys
sys.path += {paths!r}
import torch
from transformers import AutoModelForCausalLM
results = {{}}
for case, folder in {folders!r}.items():
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    tokens = torch.tensor({tokens!r})
    generated = model.generate(tokens, max_new_tokens=8, do_sample=False, num_beams=2, eos_token_id=None)
    results[case] = model(tokens).logits, generated
assert "birthgpt" not in sys.modules
torch.save(results, {results!r})
"""


@pytest.fixture
def exported(finetuned, tmp_path):
    return export(PushSettings(model_name_or_path=str(finetuned), output_dir=str(tmp_path / "export")))


def test_the_export_contains_code_card_and_all_three_classes(exported):
    names = {path.name for path in exported.iterdir()}
    assert {"README.md", "modeling_birthgpt.py", "configuration_birthgpt.py", "attention_softmax.py"} <= names
    assert not any(name.startswith("run") or name == "training_state" for name in names)
    config = json.loads((exported / "config.json").read_text())
    assert set(config["auto_map"]) == {"AutoConfig", "AutoModel", "AutoModelForCausalLM"}
    assert "library_name: transformers" in (exported / "README.md").read_text()


@pytest.mark.slow
def test_the_export_runs_without_the_package(exported, finetuned, tmp_path):
    logits = tmp_path / "logits.pt"
    run_without_package(WITHOUT_PACKAGE, tmp_path, folder=str(exported), logits=str(logits))
    model = AutoModelForCausalLM.from_pretrained(finetuned)
    inputs = AutoTokenizer.from_pretrained(finetuned)("Where was Ada born?", return_tensors="pt")
    torch.testing.assert_close(torch.load(logits), model(**inputs).logits)


@pytest.mark.slow
def test_every_attention_type_runs_without_the_package(tmp_path):
    tokens, folders, expected = random_tokens(2, 9), {}, {}
    # settings that are the same for all types are tested with one type
    shared = ("rotary", "canon", "ngrams")
    for case in [case for case in CASES if case.startswith("softmax") or not case.endswith(shared)]:
        model, folder = case_model(case, torch.float32), tmp_path / case.replace("-", "_")
        generated = model.generate(tokens, max_new_tokens=8, do_sample=False, num_beams=2, eos_token_id=None)
        expected[case] = model(tokens).logits, generated
        model.save_pretrained(folder)
        add_code(folder)
        folders[case] = str(folder)
    results = tmp_path / "results.pt"
    run_without_package(
        EVERY_TYPE_WITHOUT_PACKAGE, tmp_path, folders=folders, tokens=tokens.tolist(), results=str(results)
    )
    for case, (logits, generated) in torch.load(results).items():
        torch.testing.assert_close(logits, expected[case][0], msg=lambda text, case=case: f"{case}: {text}")
        assert torch.equal(generated, expected[case][1]), case


def test_an_existing_folder_is_kept_and_an_unreachable_hub_is_named(exported, finetuned):
    arguments = {"model_name_or_path": str(finetuned), "output_dir": str(exported)}
    with pytest.raises(ValueError, match="exists: pass --overwrite_output_dir true"):
        export(PushSettings(**arguments))
    with pytest.raises(ValueError, match="user/name could not be pushed .* the export is in"):
        export(PushSettings(**arguments, overwrite_output_dir=True, hub_model_id="user/name"))
    assert (exported / "config.json").is_file()


def test_a_push_uses_the_given_name_and_is_private_if_set(finetuned, tmp_path, monkeypatch):
    created, uploaded = {}, {}
    api = SimpleNamespace(
        create_repo=lambda name, **settings: created.update(name=name, **settings),
        upload_folder=lambda **settings: uploaded.update(settings),
    )
    monkeypatch.setattr(push, "HfApi", lambda: api)
    folder = export(
        PushSettings(
            model_name_or_path=str(finetuned),
            output_dir=str(tmp_path / "export"),
            hub_model_id="you/mine",
            private=True,
        )
    )
    assert (created["name"], created["private"]) == ("you/mine", True)
    assert (uploaded["repo_id"], uploaded["folder_path"]) == ("you/mine", folder)


def test_a_dry_run_writes_nothing(finetuned, tmp_path, capsys):
    assert export(PushSettings(model_name_or_path=str(finetuned), output_dir=str(tmp_path / "x"), dry_run=True)) is None
    assert "modeling_birthgpt.py" in capsys.readouterr().out and not (tmp_path / "x").exists()
