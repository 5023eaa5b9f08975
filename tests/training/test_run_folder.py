"""The folder of a run: what can be resumed, by which processes, and with which settings."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
from accelerate import Accelerator
from builders import run_pretraining
from processes import in_two_processes

from birthgpt.commands.finetune import FinetuneSettings
from birthgpt.commands.pretrain import PretrainSettings
from birthgpt.settings import declared_settings, parse_settings
from birthgpt.training.run_folder import open_run_folder
from birthgpt.training.run_inputs import check_same_settings

START = {PretrainSettings: (), FinetuneSettings: ("--model_name_or_path", "pretrained")}


def settings_of(kind: type, *settings):
    given = ["--train_file", "lines.txt", "--output_dir", "run", "--max_train_steps", 4, "--tokens_per_batch", 2000]
    return parse_settings(kind, [str(part) for part in (*given, *START[kind], *settings)])


def open_folder(settings, accelerator):
    return open_run_folder(settings, settings.training.run, accelerator, [])


@pytest.mark.parametrize("kind", [PretrainSettings, FinetuneSettings])
def test_every_setting_that_shapes_a_run_must_be_what_it_was(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    settings = settings_of(kind)
    assert open_folder(settings, Accelerator(cpu=True)) is None
    file = tmp_path / "run" / "settings.json"
    begun = json.loads(file.read_text())
    check_same_settings(tmp_path / "run", settings)
    declared = declared_settings(kind)
    assert begun.keys() == declared.keys()
    for name, entry in declared.items():
        file.write_text(json.dumps({**begun, name: "another"}))
        if entry.metadata["free_on_resume"]:
            check_same_settings(tmp_path / "run", settings)
        else:
            with pytest.raises(ValueError, match=rf"run was started with {name}=another, not .*: .*give the same"):
                check_same_settings(tmp_path / "run", settings)
    shaping = "learning_rate optimizer max_train_steps max_grad_norm weight_decay warmup_steps tokens_per_batch seed"
    for name in (*shaping.split(), "data_seed", "hidden_size", "train_file"):
        assert not declared[name].metadata["free_on_resume"], name


def test_a_run_without_a_word_of_its_settings_is_resumed_with_a_warning(tmp_path, caplog):
    check_same_settings(tmp_path, settings_of(PretrainSettings))
    assert "does not contain the settings of its run" in caplog.text


@pytest.mark.parametrize("content", ["{", "[]", "", "\x00"])
def test_broken_settings_of_a_run_are_named(tmp_path, content):
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(ValueError, match=r"settings.json is damaged: it ") as error:
        check_same_settings(tmp_path, settings_of(PretrainSettings))
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_an_interrupted_run_goes_on_with_its_own_settings_alone(people_files, tmp_path):
    settings = ["--train_file", people_files / "wiki.txt", "--output_dir", tmp_path / "run", "--save_steps", 2]
    whole = run_pretraining(*settings, "--logging_steps", 1)
    shutil.rmtree(tmp_path / "run" / "checkpoint-4")
    (tmp_path / "run" / "config.json").unlink()
    latest = ("--resume_from_checkpoint", "latest")
    for name, value, before in (("learning_rate", 0.002, 0.001), ("max_train_steps", 8, 4), ("data_seed", 3, None)):
        with pytest.raises(ValueError, match=f"run was started with {name}={before}, not {value}: "):
            run_pretraining(*settings, *latest, f"--{name}", value)
    resumed = run_pretraining(*settings, *latest, "--logging_steps", 1, "--save_total_limit", 1)
    assert resumed.loss == whole.loss


def write_checkpoint(run, step: int, content: str) -> None:
    """A checkpoint that passes all checks before it is read."""
    state = run / f"checkpoint-{step}" / "training_state"
    state.mkdir(parents=True)
    (state.parent / "weights").write_text(content)
    digest = hashlib.sha256(content.encode()).hexdigest()
    (state / "manifest.json").write_text(json.dumps({"files": {"weights": {"bytes": len(content), "sha256": digest}}}))


# the checkpoints on the two machines: step → content
MACHINES = {
    "the same": ({1: "a", 2: "b"}, {1: "a", 2: "b"}),
    "no shared folder": ({1: "a", 2: "b"}, {}),
    "one checkpoint behind": ({1: "a", 2: "b"}, {1: "a"}),
    "another run": ({1: "a", 2: "b"}, {1: "a", 2: "c"}),
    "none on the first": ({}, {1: "a"}),
}


def open_on_machines(folder) -> dict[str, str]:
    """What each process, in its own folder, resumes from, or its error."""
    accelerator = Accelerator(cpu=True)
    found = {}
    for name, machines in MACHINES.items():
        machine = folder / name / str(accelerator.process_index)
        machine.mkdir(parents=True)
        os.chdir(machine)
        for step, content in machines[accelerator.process_index].items():
            write_checkpoint(machine / "run", step, content)
        for settings in (["--resume_from_checkpoint", "latest"], []):
            try:
                resumed = open_folder(settings_of(PretrainSettings, *settings), accelerator)
                found[" ".join((name, *settings))] = str(resumed)
            except ValueError as error:
                found[" ".join((name, *settings))] = str(error)
    return found


@pytest.mark.slow
def test_the_main_process_chooses_and_all_stop_where_one_cannot_follow(tmp_path):
    main, other = in_two_processes(open_on_machines, tmp_path)
    assert main == other
    latest = {name: main[f"{name} --resume_from_checkpoint latest"] for name in MACHINES}
    assert latest["the same"] == "run/checkpoint-2"
    cannot = "the run cannot continue from run/checkpoint-2, which the main process has: process 1 of .*: "
    for name, fault in {
        "no shared folder": "manifest.json is missing",
        "one checkpoint behind": "manifest.json is missing",
        "another run": "manifest.json differs",
    }.items():
        with pytest.raises(ValueError, match=f"{cannot}.*{fault}; put output_dir on a disk that all machines share"):
            raise ValueError(latest[name])
    assert latest["none on the first"] == "None"
    # a new run does not start if the main process finds an old run
    assert "is not empty" in main["another run"]


@pytest.mark.parametrize(("has_checkpoint", "has_settings"), [(False, True), (True, True), (True, False)])
def test_several_models_do_not_begin_in_the_folder_of_another_run(tmp_path, monkeypatch, has_checkpoint, has_settings):
    monkeypatch.chdir(tmp_path)
    accelerator = Accelerator(cpu=True)
    open_folder(settings_of(PretrainSettings), accelerator)
    if has_checkpoint:
        write_checkpoint(tmp_path / "run", 2, "a")
    if not has_settings:
        (tmp_path / "run" / "settings.json").unlink()
    before = {path: path.read_bytes() for path in sorted((tmp_path / "run").rglob("*")) if path.is_file()}
    several = settings_of(PretrainSettings, "--seeds", 0, 1, "--resume_from_checkpoint", "latest")
    with pytest.raises(ValueError, match="(of a run of one model|was started with seeds=)"):
        open_run_folder(several, several.training.run, accelerator, [tmp_path / "run/seed-0", tmp_path / "run/seed-1"])
    assert {path: path.read_bytes() for path in sorted((tmp_path / "run").rglob("*")) if path.is_file()} == before


@pytest.mark.parametrize("others", [[], [2, 3], [0]])
def test_a_run_of_several_models_begins_again_only_as_itself(tmp_path, monkeypatch, others):
    monkeypatch.chdir(tmp_path)
    accelerator = Accelerator(cpu=True)

    def open_again(seeds, *resume):
        settings = settings_of(PretrainSettings, *(["--seeds", *seeds] if seeds else []), *resume)
        folders = [Path("run", f"seed-{seed}") for seed in seeds]
        return open_run_folder(settings, settings.training.run, accelerator, folders)

    open_again([0, 1])
    latest = ("--resume_from_checkpoint", "latest")
    assert open_again([0, 1], *latest) is None
    with pytest.raises(ValueError, match="was started with seeds="):
        open_again(others, *latest)
