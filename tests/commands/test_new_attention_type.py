"""CONTRIBUTING.md, followed literally: one file and one line add an attention type to every script."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from builders import contributed_code, run_without_package

ROOT = Path(__file__).parents[2]
SIZES = "--hidden_size 32 --num_hidden_layers 2 --num_attention_heads 2 --tokenizer_type bpe --vocab_size 300"
PRETRAINING = f"{SIZES} --objective name_first --objective_layout unrolled --max_train_steps 3 --tokens_per_batch 512"
FINETUNING = "--max_train_steps 3 --tokens_per_batch 512 --save_steps 0"
WITHOUT_PACKAGE = """
import sys
sys.path += {paths!r}
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained({folder!r}, trust_remote_code=True)
assert "birthgpt" not in sys.modules
assert model.config.mean_power == 0.5
assert [type(layer.attention).__name__ for layer in model.model.layers] == ["MeanAttention"] * 2
"""


@pytest.fixture
def copy(tmp_path):
    """The package and its scripts with the two edits."""
    for folder in ("src/birthgpt", "scripts"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    file, line = contributed_code()
    model = tmp_path / "src/birthgpt/model"
    (model / "attention_mean.py").write_text(file, encoding="utf-8")
    registry = (model / "attention_types.py").read_text(encoding="utf-8")
    before = "from .attention_performer import"
    assert line.count("\n") == 1 and registry.count(before) == 1
    (model / "attention_types.py").write_text(registry.replace(before, line + before), encoding="utf-8")
    return tmp_path


def run(copy: Path, script: str, *arguments: object) -> str:
    environment = os.environ | {"PYTHONPATH": str(copy / "src")}
    command = [sys.executable, f"scripts/{script}.py", *map(str, arguments)]
    result = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


@pytest.mark.slow
def test_one_file_and_one_line_add_an_attention_type(copy, people_files):
    assert "--mean_power NUMBER" in run(copy, "pretrain", "--help")
    pretraining = [*PRETRAINING.split(), "--attention_type", "mean", "--mean_power", "0.5"]
    run(copy, "pretrain", "--train_file", people_files / "wiki.txt", "--output_dir", "pretrained", *pretraining)
    questions = ["--train_file", people_files / "birth_places_train.tsv", "--model_name_or_path", "pretrained"]
    run(copy, "finetune", *questions, "--output_dir", "finetuned", *FINETUNING.split())
    asked = ["--question_file", people_files / "birth_dev.tsv", "--model_name_or_path", "finetuned"]
    run(copy, "evaluate", *asked, "--output_dir", "answers")
    assert len((copy / "answers/predictions.txt").read_text().splitlines()) == 20
    run(copy, "push_to_hub", "--model_name_or_path", "finetuned", "--output_dir", "export")
    run_without_package(WITHOUT_PACKAGE, copy, folder=str(copy / "export"))
