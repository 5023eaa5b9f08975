"""The export runs where birthgpt is not installed."""

import json
import os
import site
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from birthgpt.runs.exporting import ExportArguments, export

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


@pytest.fixture
def exported(finetuned, tmp_path):
    return export(ExportArguments(model_name_or_path=str(finetuned), output_dir=str(tmp_path / "export")))


def test_the_export_carries_code_card_and_all_three_classes(exported):
    names = {path.name for path in exported.iterdir()}
    assert {"README.md", "modeling_birthgpt.py", "configuration_birthgpt.py", "attention_softmax.py"} <= names
    assert not any(name.startswith("run") or name == "training_state" for name in names)
    config = json.loads((exported / "config.json").read_text())
    assert set(config["auto_map"]) == {"AutoConfig", "AutoModel", "AutoModelForCausalLM"}
    assert "library_name: transformers" in (exported / "README.md").read_text()


@pytest.mark.slow
def test_the_export_runs_without_the_package(exported, finetuned, tmp_path):
    paths = [path for path in (*site.getsitepackages(), site.getusersitepackages()) if os.path.isdir(path)]
    logits = tmp_path / "logits.pt"
    program = WITHOUT_PACKAGE.format(paths=paths, folder=str(exported), logits=str(logits))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment["HF_HOME"] = str(tmp_path / "home")
    result = subprocess.run(
        [sys.executable, "-S", "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    model = AutoModelForCausalLM.from_pretrained(finetuned)
    inputs = AutoTokenizer.from_pretrained(finetuned)("Where was Ada born?", return_tensors="pt")
    torch.testing.assert_close(torch.load(logits), model(**inputs).logits)


def test_an_existing_folder_is_kept_and_an_unreachable_hub_is_named(exported, finetuned):
    arguments = {"model_name_or_path": str(finetuned), "output_dir": str(exported)}
    with pytest.raises(ValueError, match="exists: pass --overwrite_output_dir true"):
        export(ExportArguments(**arguments))
    with pytest.raises(ValueError, match="user/name could not be pushed .* the export lies in"):
        export(ExportArguments(**arguments, overwrite_output_dir=True, hub_model_id="user/name"))
    assert (exported / "config.json").is_file()


def test_a_dry_run_writes_nothing(finetuned, tmp_path, capsys):
    assert export(ExportArguments(str(finetuned), str(tmp_path / "x"), dry_run=True)) is None
    assert "modeling_birthgpt.py" in capsys.readouterr().out and not (tmp_path / "x").exists()
