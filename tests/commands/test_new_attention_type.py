"""The steps of CONTRIBUTING.md: one file and one line add an attention type to every script."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from builders import contributed_code, run_without_package

ROOT = Path(__file__).parents[2]
SIZES = "--hidden_size 32 --num_hidden_layers 2 --num_attention_heads 2 --tokenizer_type bpe --vocab_size 300"
PRETRAINING = f"{SIZES} --objective name_first --objective_layout unrolled --max_train_steps 3 --tokens_per_batch 512 "
PRETRAINING += "--attention_type mean --mean_power 0.5"
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


RUN_SCRIPTS = """
import runpy, sys
for script, arguments in {steps!r}:
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")
"""


def run_scripts(copy: Path, steps: dict[str, str]) -> None:
    """Run scripts of the copy one after the other, in one process that imports the copied package."""
    listed = [(f"scripts/{name}.py", arguments.split()) for name, arguments in steps.items()]
    environment = os.environ | {"PYTHONPATH": str(copy / "src")}
    command = [sys.executable, "-c", RUN_SCRIPTS.format(steps=listed)]
    result = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]


@pytest.mark.slow
def test_one_file_and_one_line_add_an_attention_type(copy, people_files):
    questions, asked = people_files / "birth_places_train.tsv", people_files / "birth_dev.tsv"
    steps = {
        "pretrain": f"--train_file {people_files}/wiki.txt --output_dir pretrained {PRETRAINING}",
        "finetune": f"--train_file {questions} --model_name_or_path pretrained --output_dir finetuned {FINETUNING}",
        "evaluate": f"--question_file {asked} --model_name_or_path finetuned --output_dir answers",
        "push_to_hub": "--model_name_or_path finetuned --output_dir export",
    }
    run_scripts(copy, steps)
    assert len((copy / "answers/predictions.txt").read_text().splitlines()) == 20
    run_without_package(WITHOUT_PACKAGE, copy, folder=str(copy / "export"))
