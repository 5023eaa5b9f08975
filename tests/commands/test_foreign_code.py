"""No command runs the code of a checkpoint, also if something answers `y` to the question of transformers."""

import ast
import json
import shutil
from pathlib import Path

import pytest

from birthgpt.commands.convert import ConvertSettings, convert
from birthgpt.commands.loading import load_model, load_tokenizer
from birthgpt.utils.files import save_json

SOURCES = Path(__file__).parents[2] / "src" / "birthgpt"
CHECKPOINT = Path(__file__).parents[1] / "checkpoints_0.1" / "abc"

CODE = """
open({ran!r}, "w").close()
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast
class Config(PreTrainedConfig):
    model_type = "foreign"
class Model(PreTrainedModel):
    config_class = Config
class Tokenizer(PreTrainedTokenizerFast):
    pass
"""


@pytest.fixture
def asked(monkeypatch):
    """The questions that something asked on standard input, and answered `y`."""
    questions: list[str] = []
    monkeypatch.setattr("builtins.input", lambda question="": questions.append(question) or "y")
    return questions


def add_foreign_code(folder: Path, ran: Path, *, model: bool) -> None:
    (folder / "foreign.py").write_text(CODE.format(ran=str(ran)))
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    names = {"AutoTokenizer": [None, "foreign.Tokenizer"]}
    save_json(folder / "tokenizer_config.json", tokenizer | {"tokenizer_class": "Tokenizer", "auto_map": names})
    if model:
        config = json.loads((folder / "config.json").read_text())
        names = {"AutoConfig": "foreign.Config", "AutoModelForCausalLM": "foreign.Model"}
        save_json(folder / "config.json", config | {"model_type": "foreign", "auto_map": names})
    (folder / "manifest.json").unlink(missing_ok=True)


def test_the_code_of_a_model_and_of_a_tokenizer_is_not_run(finetuned, tmp_path, asked):
    folder = tmp_path / "foreign"
    shutil.copytree(finetuned, folder)
    add_foreign_code(folder, tmp_path / "ran", model=True)
    for load in (load_model, load_tokenizer):
        with pytest.raises(ValueError, match="contains custom code"):
            load(str(folder))
    assert not asked and not (tmp_path / "ran").exists()


def test_a_conversion_runs_no_code(tmp_path, asked):
    folder = tmp_path / "foreign"
    shutil.copytree(CHECKPOINT, folder)
    add_foreign_code(folder, tmp_path / "ran", model=False)
    with pytest.raises(ValueError, match="contains custom code"):
        convert(ConvertSettings(model_name_or_path=str(folder)))
    assert not asked and not (tmp_path / "ran").exists()


def test_every_call_that_loads_a_checkpoint_says_that_it_trusts_no_code():
    calls = [
        (file.name, node)
        for file in SOURCES.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("Auto")
        if ast.unparse(node.func).endswith((".from_pretrained", ".from_config"))
    ]
    assert calls
    for name, call in calls:
        assert "trust_remote_code=False" in ast.unparse(call), f"{name}, line {call.lineno}"
