"""Ctrl-C and SIGTERM end a run after an update and its checkpoint; the run can go on as if it had never stopped."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from builders import TINY, losses, train
from processes import in_two_processes

from birthgpt.commands.command import Command
from birthgpt.commands.people import PeopleSettings
from birthgpt.training.callbacks import TrainerCallback
from birthgpt.training.manifest import list_checkpoints
from birthgpt.training.stopping import Stopped, StopSignals

STOPPED_BY = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class Signal(TrainerCallback):
    """Sends a signal to this process, and to the workers that read its data, before an update ends."""

    def __init__(self, signum: int, step: int):
        self.signum, self.step = signum, step

    def on_step_begin(self, trainer):
        if trainer.state.step == self.step - 1:
            processes = [*multiprocessing.active_children(), multiprocessing.current_process()]
            # by another program, because workers are allowed to end when their parent tells them to
            subprocess.run(["kill", f"-{int(self.signum)}", *(str(process.pid) for process in processes)], check=True)


def checkpoints(folder) -> list[str]:
    return [path.name for path in list_checkpoints(folder / "run")]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("signum", STOPPED_BY)
def test_a_stopped_run_goes_on_as_if_it_had_never_stopped(tmp_path, bpe, signum, workers):
    whole, model = train(tmp_path / "whole", bpe)
    settings = {"save_steps": 100, "dataloader_num_workers": workers}
    before = signal.getsignal(signum)
    with pytest.raises(
        Stopped, match=f"stopped by {STOPPED_BY[signum]} after update 5; checkpoint-5 is in "
    ) as stopped:
        train(tmp_path / "parts", bpe, callbacks=[Signal(signum, 5)], **settings)
    assert stopped.value.exit_code == 128 + signum
    assert signal.getsignal(signum) == before
    assert checkpoints(tmp_path / "parts") == ["checkpoint-5"]
    resumed, resumed_model = train(tmp_path / "parts", bpe, resume=True, **settings)
    assert losses(resumed) == losses(whole)
    for name, value in model.state_dict().items():
        assert torch.equal(value, resumed_model.state_dict()[name]), name


def test_a_run_that_saves_no_checkpoints_says_so_when_it_is_stopped(tmp_path, bpe):
    with pytest.raises(Stopped, match="after update 5; no checkpoint is written, because save_steps is 0"):
        train(tmp_path, bpe, save_steps=0, callbacks=[Signal(signal.SIGTERM, 5)])
    assert not checkpoints(tmp_path)


def test_a_run_that_is_stopped_in_its_last_update_is_finished(tmp_path, bpe):
    summary, _ = train(tmp_path, bpe, save_steps=0, callbacks=[Signal(signal.SIGTERM, 12)])
    assert summary.steps == 12 and (tmp_path / "run" / "model.safetensors").is_file()


def test_the_callbacks_are_closed_however_the_run_ends(tmp_path, bpe):
    closed = []

    class Closing(TrainerCallback):
        def close(self):
            closed.append(True)

    class Failing(TrainerCallback):
        def on_step_end(self, trainer):
            raise RuntimeError("a fault")

    train(tmp_path / "finished", bpe, max_train_steps=2, callbacks=[Closing()])
    with pytest.raises(Stopped):
        train(tmp_path / "stopped", bpe, callbacks=[Closing(), Signal(signal.SIGTERM, 5)])
    with pytest.raises(RuntimeError):
        train(tmp_path / "failed", bpe, callbacks=[Closing(), Failing()])
    assert len(closed) == 3


def stop_one_of_two(folder, bpe) -> tuple[str, list[str]]:
    """Train in this process; process 1 gets a signal."""
    own = [Signal(signal.SIGTERM, 5)] if os.environ["RANK"] == "1" else []
    with pytest.raises(Stopped) as stopped:
        train(folder, bpe, callbacks=own, save_steps=100)
    return str(stopped.value), checkpoints(folder)


@pytest.mark.slow
def test_all_processes_stop_after_the_same_update(tmp_path, bpe):
    (message, found), (other_message, _) = in_two_processes(stop_one_of_two, tmp_path, bpe)
    assert message == other_message and "stopped by SIGTERM after update 5;" in message
    assert found == ["checkpoint-5"]


def test_a_second_ctrl_c_ends_the_program_at_once_but_not_one_that_is_sent_twice(monkeypatch):
    monkeypatch.setattr("birthgpt.training.stopping.SECONDS_TO_REPEAT", 0.2)
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.flags() == [1, 0]
        time.sleep(0.3)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            os.kill(os.getpid(), signal.SIGINT)
            assert signals.flags() == [0, 0]
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("variable", "flags"), [("TORCHELASTIC_RUN_ID", [0, 1]), ("HOME", [0, 0])])
def test_the_end_of_the_launcher_stops_the_run_but_the_end_of_a_shell_does_not(monkeypatch, variable, flags):
    monkeypatch.setenv(variable, "1")
    with StopSignals() as signals:
        assert signals.flags() == [0, 0]
        monkeypatch.setattr(os, "getppid", lambda: 1)
        assert signals.flags() == flags


def interrupt(settings):
    raise KeyboardInterrupt


def test_ctrl_c_in_any_command_is_one_line_without_traceback(capsys):
    with pytest.raises(SystemExit) as exit_status:
        Command(PeopleSettings, interrupt)(["--output_dir", "nowhere"])
    assert exit_status.value.code == 130 and capsys.readouterr().err == "stopped by Ctrl-C\n"


@pytest.mark.slow
@pytest.mark.parametrize("signum", STOPPED_BY)
def test_a_stopped_program_has_the_exit_code_of_the_signal_and_says_how_to_go_on(tmp_path, people_files, signum):
    run = tmp_path / "run"
    arguments = ["--train_file", people_files / "wiki.txt", "--output_dir", run, *TINY, "--max_train_steps", 100000]
    command = [sys.executable, "-m", "birthgpt", "pretrain", *map(str, arguments), "--save_steps", "10000"]
    command += ["--logging_steps", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as program:
        # the bar shows the first update
        shown = ""
        while "step 1," not in shown:
            shown += program.stderr.read(1)
        program.send_signal(signum)
        shown += program.communicate()[1]
    assert program.returncode == 128 + signum
    assert "Traceback" not in shown
    (checkpoint,) = list_checkpoints(run)
    assert shown.splitlines()[-1] == (
        f"stopped by {STOPPED_BY[signum]} after update {checkpoint.name.split('-')[1]}; {checkpoint.name} is in {run}: "
        "the same command with --resume_from_checkpoint latest continues it"
    )
