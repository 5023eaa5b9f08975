"""Two programs never write into one folder at the same time, and a killed program leaves no lock."""

import errno
import multiprocessing
import os
import platform
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from accelerate import Accelerator
from builders import run_pretraining
from processes import in_two_processes, new_processes

from birthgpt.commands.push import PushSettings, export
from birthgpt.commands.quickstart import QuickstartSettings, quickstart
from birthgpt.settings import make_settings
from birthgpt.training.run_folder import RunSettings
from birthgpt.training.run_lock import locked_folder
from birthgpt.utils.locks import LOCK, locked, locked_file

fcntl = pytest.importorskip("fcntl", reason="locks of POSIX")


def hold(folder: Path, ready, forks: bool) -> None:
    """Lock a folder until this process is killed; with `forks`, a child lives on, as a worker of a DataLoader may."""
    with locked(folder):
        if forks and os.fork() == 0:
            time.sleep(30)
            os._exit(0)
        ready.set()
        time.sleep(300)


@contextmanager
def held_by_another(folder: Path, forks: bool = False):
    """A process that has locked the folder; it is killed at the end."""
    context = new_processes()
    ready = context.Event()
    process = context.Process(target=hold, args=(folder, ready, forks), daemon=True)
    process.start()
    assert ready.wait(120)
    try:
        yield process
    finally:
        process.kill()
        process.join()


def test_a_folder_in_use_is_refused_with_host_and_process_until_its_process_has_ended(tmp_path):
    for forks in (False, True):
        with held_by_another(tmp_path, forks) as process:
            message = f"{tmp_path} is in use by process {process.pid} on {platform.node()}: wait until it has ended"
            for _ in range(2):
                with pytest.raises(ValueError, match=message), locked(tmp_path):
                    pass
        # killed, so its file is still there
        assert (tmp_path / LOCK).read_text() == f"process {process.pid} on {platform.node()}\n"
        with locked(tmp_path):
            assert (tmp_path / LOCK).read_text() == f"process {os.getpid()} on {platform.node()}\n"
        assert not (tmp_path / LOCK).exists()


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_no_command_writes_into_a_folder_in_use(tmp_path, people_files, pretrained):
    train_file = ("--train_file", people_files / "wiki.txt", "--objective", "name_first")
    commands = {
        "a new run": lambda: run_pretraining(*train_file, "--output_dir", tmp_path, "--overwrite_output_dir", True),
        "a resumed run": lambda: run_pretraining(
            *train_file, "--output_dir", tmp_path, "--resume_from_checkpoint", "latest"
        ),
        "push": lambda: export(
            PushSettings(model_name_or_path=str(pretrained), output_dir=str(tmp_path), overwrite_output_dir=True)
        ),
        "quickstart": lambda: quickstart(make_settings(QuickstartSettings, output_dir=str(tmp_path))),
    }
    with held_by_another(tmp_path):
        before = files(tmp_path)
        for name, command in commands.items():
            with pytest.raises(ValueError, match=f"{tmp_path} is in use by process "):
                command()
            assert files(tmp_path) == before, name


@pytest.mark.parametrize("used", [".", "runs/seed-1", "runs/a/b"])
def test_a_lock_holds_for_the_folders_in_and_around_its_folder(tmp_path, used):
    with held_by_another(tmp_path / used):
        with pytest.raises(ValueError, match="is in use by process "), locked(tmp_path / "runs"):
            pass
        assert not (tmp_path / "runs" / LOCK).exists()
        if used != ".":
            with locked(tmp_path / "runs" / "seed-2"):
                pass
    with locked(tmp_path / "runs"), locked(tmp_path / used), locked(tmp_path / "runs" / "seed-2"):
        pass


def test_an_old_lock_is_no_content_of_a_folder(tmp_path, people_files):
    run = tmp_path / "run"
    run.mkdir()
    (run / LOCK).write_text("process 1 on another\n")
    run_pretraining("--train_file", people_files / "wiki.txt", "--objective", "name_first", "--output_dir", run)
    assert (run / "config.json").is_file() and not (run / LOCK).exists()


def test_a_folder_that_was_made_for_the_lock_alone_is_removed(tmp_path):
    with locked(tmp_path / "new" / "run"):
        assert (tmp_path / "new" / "run" / LOCK).is_file()
    assert not (tmp_path / "new" / "run").exists()


def test_a_file_system_without_locks_gets_a_warning(tmp_path, monkeypatch, caplog):
    def no_locks(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", no_locks)
    with locked(tmp_path):
        pass
    assert f"{tmp_path} cannot be locked on this file system (No locks available)" in caplog.text


def test_a_folder_that_cannot_be_locked_is_an_error_in_a_line(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / LOCK).mkdir()
    for folder, fault in ((tmp_path / "file", "is a file: choose a folder"), (tmp_path, "cannot be written: ")):
        with pytest.raises(ValueError, match=f"output_dir={folder} {fault}"), locked(folder):
            pass


def lock_in_process(folder: Path) -> str:
    run = RunSettings(output_dir=str(folder))
    with pytest.raises(ValueError) as error, locked_folder(run, Accelerator(cpu=True)):
        pass
    return str(error.value)


@pytest.mark.slow
def test_all_processes_are_told_that_the_folder_is_in_use(tmp_path):
    with held_by_another(tmp_path) as process:
        messages = in_two_processes(lock_in_process, tmp_path)
    assert messages[0] == messages[1] and f"is in use by process {process.pid}" in messages[0]


def change_slowly(path: Path, ready, seconds: float) -> None:
    with locked_file(path):
        ready.set()
        time.sleep(seconds)
        path.write_text("changed")


def test_a_file_is_waited_for_and_a_killed_process_leaves_no_lock_on_it(tmp_path):
    # forked processes start at once, and compute nothing here
    context = multiprocessing.get_context("fork")
    for name, seconds in (("waited.tsv", 0.5), ("killed.tsv", 300)):
        path, ready = tmp_path / name, context.Event()
        process = context.Process(target=change_slowly, args=(path, ready, seconds), daemon=True)
        process.start()
        assert ready.wait(60)
        if name == "killed.tsv":
            process.kill()
        with locked_file(path):
            assert path.exists() == (name == "waited.tsv")
        process.join()
    assert [path.name for path in tmp_path.iterdir()] == ["waited.tsv"]
