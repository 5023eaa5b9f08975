"""Scripts and commands as a user starts them, with python and with accelerate launch."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from accelerate import Accelerator
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser

from birthgpt.cli import COMMANDS, find_command, main
from birthgpt.commands.building import build_model
from birthgpt.commands.run_metadata import show_summary
from birthgpt.commands.unused_settings import (
    unused_in_evaluation,
    unused_in_finetuning,
    unused_in_pretraining,
    unused_settings,
)
from birthgpt.settings import declared_settings, parse_settings, read_config
from birthgpt.training.state import TrainingSummary
from birthgpt.utils.environment import use_threads

ROOT = Path(__file__).parents[2]
SCRIPTS = {"push_to_hub": "push", "split_questions": "split"}
"""The scripts whose commands have another name."""

TINY = (
    "--objective name_first --hidden_size 32 --num_hidden_layers 1 --num_attention_heads 2 --max_train_steps 3 "
    "--tokens_per_batch 2000 --block_size 256 --logging_steps 1"
).split()


def all_cores() -> set[int]:
    """All cores of this machine, even if the tests are limited to one of them."""
    named = os.environ.get("BIRTHGPT_TEST_CORES")
    return set(map(int, named.split(","))) if named else os.sched_getaffinity(0)


def run(*command, **environment) -> subprocess.CompletedProcess:
    """Run a program on all cores, from the root of the repository."""
    affinity = {}
    if hasattr(os, "sched_setaffinity"):
        affinity["preexec_fn"] = lambda: os.sched_setaffinity(0, all_cores())
    given = [str(part) for part in command]
    environment = {**os.environ, **environment}
    return subprocess.run(given, cwd=ROOT, env=environment, capture_output=True, text=True, **affinity)


CONFIGS = sorted(path for path in ROOT.glob("configs/*/*.yaml") if path.parent.name != "accelerate")
COMMAND_OF_CONFIG = ("pretrain", "finetune", "evaluate", "ensemble", "probe")


UNUSED = {"pretrain": unused_in_pretraining, "finetune": unused_in_finetuning, "evaluate": unused_in_evaluation}


def command_of(config: Path) -> str:
    """The command of a configuration: the beginning of its name, or `pretrain`."""
    return next((name for name in COMMAND_OF_CONFIG if config.stem.startswith(name)), "pretrain")


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_values_of_a_config_are_taken_and_its_model_can_be_built(config, characters):
    settings_class, given = find_command(command_of(config)).settings, read_config(str(config))
    declared = declared_settings(settings_class)
    required = [name for name, entry in declared.items() if entry.default is entry.default_factory]
    arguments = ["--config", str(config), *(f"--{name}=x" for name in required if given.get(name) is None)]
    if "finetune" in config.stem and not {"model_name_or_path", "corpus_file"} & given.keys():
        source = "corpus_file" if "without" in config.stem else "model_name_or_path"
        arguments.append(f"--{source}=x")
    if "question_ratio" in given:
        arguments.append("--question_file=x")
    settings = parse_settings(settings_class, arguments)
    # what it says has an effect
    unused = UNUSED.get(command_of(config))
    assert not unused or unused_settings(settings, unused(settings)) == []
    if hasattr(settings, "model"):
        with torch.device("meta"):
            build_model(settings.model, characters, 128)


@pytest.mark.parametrize("config", sorted(ROOT.glob("configs/accelerate/*.yaml")), ids=lambda path: path.stem)
def test_accelerate_reads_each_launch_file_as_it_is_written(config):
    settings, read = yaml.safe_load(config.read_text()), load_config_from_file(str(config))
    # some values are members of an enumeration
    found = {name: getattr(read, name) for name in settings}
    assert {name: getattr(value, "value", value) for name, value in found.items()} == settings
    # the reader does not check the names of the FSDP settings
    known = vars(launch_command_parser().parse_args(["script.py"]))
    assert set(settings.get("fsdp_config", {})) <= known.keys()


def test_a_training_ends_with_a_table_of_its_summary(capsys):
    summary = TrainingSummary(
        steps=30, tokens=1_234_567, target_ratio=0.5, flops=4e13, parameters=2_100_000, seconds=90.0,
        tokens_per_second=13_717.4, loss=0.3061, processes=1, mixed_precision="no",
    )  # fmt: skip
    show_summary(summary)
    shown = capsys.readouterr().out.splitlines()
    assert shown[-1].split() == ["30", "1.2M", "50.0", "2.1M", "4.0e13", "1.5", "13,717", "0.306"]
    show_summary(None)
    assert capsys.readouterr().out == ""


def test_every_script_calls_its_command():
    scripts = sorted((ROOT / "scripts").glob("*.py"))
    assert len(scripts) >= 10
    for path in scripts:
        name = SCRIPTS.get(path.stem, path.stem)
        assert name in COMMANDS
        text = path.read_text()
        assert f"from birthgpt.commands.{name} import COMMAND" in text and text.endswith("    COMMAND()\n")


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["python", "accelerate launch", "two processes"])
def test_a_run_uses_all_cores_and_has_the_same_losses_with_every_launcher(people_files, tmp_path, launcher):
    programs = {
        "python": [sys.executable],
        "accelerate launch": [sys.executable, "-m", "accelerate.commands.launch", "--cpu"],
        "two processes": [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"],
    }
    environment = {"ACCELERATE_USE_CPU": "true"} if launcher == "two processes" else {}
    result = run(
        *programs[launcher], "scripts/pretrain.py", "--train_file", people_files / "wiki.txt",
        "--output_dir", tmp_path / "x", *TINY, "--hidden_dropout", "0", "--attention_dropout", "0",
        "--with_tracking", "true", **environment,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    assert (tmp_path / "x" / "model.safetensors").is_file() and (tmp_path / "x" / "run.json").is_file()
    assert list((tmp_path / "x" / "logs").rglob("events.out.tfevents*"))
    # only the main process shows the progress bar
    losses = re.findall(r"step 3, loss ([\d.]+)", result.stderr)
    assert len(set(losses)) == 1
    cores = len(all_cores()) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = re.search(r"processes: (\d+), threads of each: (\d+)", result.stderr)
    processes = 2 if launcher == "two processes" else 1
    assert (int(threads[1]), int(threads[2])) == (processes, max(1, cores // processes))


THREADS = {
    "python": [sys.executable],
    "accelerate launch": [sys.executable, "-m", "accelerate.commands.launch"],
    "accelerate launch --cpu": [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1"],
    "torchrun": [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "1"],
}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", THREADS)
def test_the_user_decides_how_many_threads_compute(people_files, tmp_path, launcher):
    def threads_of(*settings, **environment) -> int:
        command = [*THREADS[launcher], "scripts/pretrain.py", "--train_file", people_files / "wiki.txt", *settings]
        command += ["--output_dir", tmp_path, "--dry_run", "true", *TINY]
        result = run(*command, ACCELERATE_USE_CPU="true", **environment)
        assert result.returncode == 0, result.stderr[-2000:]
        return int(re.search(r"threads of each: (\d+)", result.stderr)[1])

    assert threads_of(OMP_NUM_THREADS="1") == 1
    assert threads_of("--num_threads", 3, OMP_NUM_THREADS="1") == 3


@pytest.mark.parametrize(
    ("environment", "arguments", "threads"),
    [
        ("OMP_NUM_THREADS=1", "launch", 1),
        ("", "launch", 4),
        ("", "launch --num_cpu_threads_per_process 1", 1),
        (None, "launch", 4),
    ],
)
def test_one_thread_is_the_default_of_a_launcher_unless_it_was_told_so(monkeypatch, environment, arguments, threads):
    def read(path: Path) -> bytes:
        if environment is None:
            raise OSError("this system has no such files")
        return (environment if path.name == "environ" else arguments).replace(" ", "\0").encode()

    monkeypatch.setattr(Path, "read_bytes", read)
    monkeypatch.setattr("birthgpt.utils.environment.available_cores", lambda: 4)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "run")
    use_threads(Accelerator(cpu=True))
    assert torch.get_num_threads() == threads


def test_only_the_command_line_and_the_config_give_settings(monkeypatch, tmp_path):
    script = tmp_path / "people.py"
    script.with_suffix(".args").write_text("--seed 77 --nonsense 3")
    monkeypatch.setattr(sys, "argv", [str(script), "--output_dir", "people"])
    assert parse_settings(find_command("people").settings).seed == 0


@pytest.mark.slow
@pytest.mark.skipif(torch.accelerator.is_available(), reason="the processes would use the accelerator")
def test_the_processes_of_torchrun_know_each_other(people_files, tmp_path):
    result = run(
        sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "scripts/evaluate.py",
        "--question_file", people_files / "birth_dev.tsv", "--baseline", "London", "--output_dir", tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.count(" right, ") == 1
    assert "processes: 2" in result.stderr


@pytest.mark.parametrize(
    "name",
    "app ask calibrate compare convert extract people preview push quickstart report split synthesize verify".split(),
)
def test_a_command_of_one_process_is_not_launched_as_two(name, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit) as exit_status:
        main([name])
    assert exit_status.value.code == 2 and "runs in one process" in capsys.readouterr().err


@pytest.mark.slow
def test_a_mistake_is_one_line_without_traceback():
    result = run(sys.executable, "scripts/pretrain.py", "--train_file", "nowhere.txt", "--output_dir", "x", *TINY)
    assert result.returncode == 2
    assert result.stderr.strip().splitlines()[-1].startswith("error: ") and "Traceback" not in result.stderr


def test_without_a_command_all_of_them_are_shown(capsys):
    main([])
    shown = capsys.readouterr().out
    assert all(f"    {name} " in shown for name in COMMANDS)
    main(["--version"])
    assert re.fullmatch(r"birthgpt \d+\.\d+\.\d+", capsys.readouterr().out.strip())


def test_a_command_that_does_not_exist_is_named(capsys):
    with pytest.raises(SystemExit) as exit_status:
        main(["pretrian"])
    assert exit_status.value.code == 2
    assert "has no command 'pretrian'; did you mean 'pretrain'?" in capsys.readouterr().err


def test_every_command_has_a_help(capsys):
    for name in COMMANDS:
        with pytest.raises(SystemExit):
            main([name, "--help"])
        shown = capsys.readouterr().out
        assert shown.startswith(f"usage: birthgpt {name} [--config FILE.yaml] [--setting value …]")
        assert find_command(name).settings.__doc__.split(";")[0].split(":")[0][:40] in " ".join(shown.split())


@pytest.mark.slow
def test_a_checkpoint_is_asked_from_any_folder(finetuned, tmp_path, capsys):
    main(["ask", str(finetuned), "Where was Ada born?"])
    answer = capsys.readouterr().out.strip()
    assert re.search(r"\(probability 0\.\d\d\)$", answer)
    command = [sys.executable, "-m", "birthgpt", "ask", str(finetuned)]
    asked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, input="Where was Ada born?\n\n")
    assert asked.returncode == 0 and answer in asked.stdout
