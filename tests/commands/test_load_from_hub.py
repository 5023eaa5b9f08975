"""A pushed model answers the same elsewhere, with and without this package, and its code is known by its version."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from builders import case_model, random_tokens, run_without_package, tiny_model
from hub_server import TOKEN, Hub
from transformers import AutoModelForCausalLM

from birthgpt import BirthGPTConfig
from birthgpt.commands.ask import AskSettings, ask
from birthgpt.commands.hub import HubSettings, open_repository, upload
from birthgpt.commands.loading import load_model_and_tokenizer
from birthgpt.commands.push import PushSettings, add_code, export
from birthgpt.model.attention import ATTENTION_TYPES
from birthgpt.settings import make_settings
from birthgpt.training.manifest import write_manifest

ROOT = Path(__file__).parents[2]

# each user sets trust_remote_code, or installs the package: this package sets nothing
LOAD = """
import torch
from transformers import AutoModelForCausalLM
torch.set_num_threads(1)
found = {{}}
for name in {names!r}:
    try:
        model = AutoModelForCausalLM.from_pretrained("you/" + name, **{arguments!r})
        found[name] = model(torch.tensor({tokens!r})).logits, type(model).__module__
    except Exception as error:
        found[name] = repr(error), ""
assert ("birthgpt" in sys.modules) is {has_package!r}
torch.save(found, {results!r})
"""
WITHOUT = "import sys\nsys.path += {paths!r}" + LOAD
WITH = "import sys\nimport birthgpt" + LOAD

TYPES = {name.replace("_", "-"): name for name in ATTENTION_TYPES}


def save_export(model, folder: Path) -> list[str]:
    """Save a model with its code, without a tokenizer; return the names of its files."""
    model.save_pretrained(folder)
    add_code(folder)
    write_manifest(folder)
    return sorted(file.name for file in folder.iterdir())


def push_model(model, folder: Path, name: str, **settings) -> None:
    repository = open_repository(HubSettings(hub_model_id=name, **settings))
    upload(folder, save_export(model, folder), repository, "Upload model", settings.get("hub_tag"))


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """By the name of each attention type: the logits here, and those of two other programs with their modules."""
    folder, tokens = tmp_path_factory.mktemp("hub"), random_tokens(2, 9)
    expected, results = {}, {}
    with Hub() as server, pytest.MonkeyPatch.context() as patch:
        server.log_in(patch)
        torch.set_num_threads(1)
        for name, attention_type in TYPES.items():
            model = case_model(attention_type, torch.float32)
            expected[name] = model(tokens).logits
            push_model(model, folder / name, f"you/{name}", private=True)
        shared = {"HF_ENDPOINT": server.endpoint, "HF_HUB_OFFLINE": "0", "HF_TOKEN": TOKEN, "OMP_NUM_THREADS": "1"}
        values = {"names": list(TYPES), "tokens": tokens.tolist()}
        for place in ("without", "with"):
            (folder / place).mkdir()
            results[place] = folder / place / "found.pt"
        without = {"arguments": {"trust_remote_code": True}, "has_package": False, "results": str(results["without"])}
        run_without_package(WITHOUT, folder / "without", variables=shared, **values, **without)
        program = WITH.format(**values, arguments={}, has_package=True, results=str(results["with"]))
        variables = {
            **shared,
            "PATH": "/usr/bin:/bin",
            "HF_HOME": str(folder / "with"),
            "PYTHONPATH": str(ROOT / "src"),
        }
        run = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, text=True)
        assert run.returncode == 0 and "comes with the code of birthgpt" not in run.stderr, run.stderr
    assert server.faults == []
    return expected, {place: torch.load(file) for place, file in results.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", TYPES)
def test_every_attention_type_gives_the_same_logits_bit_for_bit_with_and_without_the_package(loaded, name):
    expected, found = loaded
    for place, module in (("without", "transformers_modules."), ("with", "birthgpt.")):
        logits, used = found[place][name]
        assert used.startswith(module), logits
        assert torch.equal(logits, expected[name]), place


def test_a_tag_is_loaded_by_its_name(hub, tmp_path):
    first, second = tiny_model(), tiny_model(num_hidden_layers=1)
    push_model(first, tmp_path / "first", "you/tagged", hub_tag="v1")
    push_model(second, tmp_path / "second", "you/tagged", hub_tag="v2")
    for revision, model in {"v1": first, "v2": second, "main": second}.items():
        found = AutoModelForCausalLM.from_pretrained("you/tagged", revision=revision)
        assert all(torch.equal(weight, found.state_dict()[key]) for key, weight in model.state_dict().items())


def test_a_private_model_needs_the_token(hub, tmp_path, monkeypatch):
    push_model(tiny_model(), tmp_path / "model", "you/hidden", private=True)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ValueError, match="you/hidden has no model that can be loaded") as refusal:
        load_model_and_tokenizer("you/hidden")
    assert "\n" not in str(refusal.value)


def test_commands_read_models_from_the_hub_by_the_code_that_is_installed(hub, finetuned, tmp_path, capsys):
    push = {"model_name_or_path": str(finetuned), "output_dir": str(tmp_path / "export"), "hub_model_id": "you/asked"}
    export(PushSettings(**push))
    model, _ = load_model_and_tokenizer("you/asked")
    here, _ = load_model_and_tokenizer(str(finetuned))
    assert type(model).__module__.startswith("birthgpt.")
    assert all(torch.equal(weight, model.state_dict()[name]) for name, weight in here.state_dict().items())
    ask(make_settings(AskSettings, model_name_or_path="you/asked", question="Where was Ada Lovelace born?"))


def test_code_of_another_version_is_recognised_once_and_not_saved_again(hub, tmp_path, caplog):
    folder = tmp_path / "model"
    save_export(tiny_model(), folder)
    config = json.loads((folder / "config.json").read_text())
    assert config["code_version"] == BirthGPTConfig.installed_code
    assert config["code_version"].startswith("0.") and len(config["code_version"].split("+")[1]) == 8
    caplog.set_level(logging.WARNING)
    AutoModelForCausalLM.from_pretrained(folder)
    assert "code of birthgpt" not in caplog.text
    (folder / "config.json").write_text(json.dumps(config | {"code_version": "9.9.9+00000000"}))
    for trust_remote_code in (None, True):
        # transformers takes the registered class also if remote code is trusted
        model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=trust_remote_code)
        assert type(model).__module__.startswith("birthgpt.")
    warnings = [record.getMessage() for record in caplog.records if "code of birthgpt" in record.getMessage()]
    assert len(warnings) == 1
    assert "9.9.9+00000000" in warnings[0] and config["code_version"] in warnings[0]
    model.save_pretrained(tmp_path / "again")
    assert not {"code_version", "auto_map"} & json.loads((tmp_path / "again" / "config.json").read_text()).keys()
