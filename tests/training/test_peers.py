"""If one process of a run is killed, the others end soon, with the reason."""

import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
from builders import TINY

from birthgpt.commands.command import Command
from birthgpt.commands.people import PeopleSettings

needs_linux = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="processes are watched on Linux")

HANGS = """
import os, signal, sys, time
from accelerate import Accelerator
from birthgpt.training.peers import PeerWatch

# the main thread does nothing that a lost process could interrupt, as in an exchange over NCCL
with PeerWatch(Accelerator(cpu=True)):
    print("step 1,", file=sys.stderr, flush=True)
    time.sleep(100)
"""
ENDS = """
import time
from accelerate import Accelerator
from birthgpt.training.peers import PeerWatch

with PeerWatch(Accelerator(cpu=True)) as watch:
    pass
time.sleep(0 if watch.accelerator.process_index else 8)
"""


def two_processes(*arguments) -> list[subprocess.Popen]:
    """Two connected processes of a Python program, without a launcher that would end them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, *map(str, arguments)]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    return [
        subprocess.Popen(
            command, env={**os.environ, **shared, "RANK": rank, "LOCAL_RANK": rank}, stderr=subprocess.PIPE, text=True
        )
        for rank in ("0", "1")
    ]


def survivor_of(killed: int, *arguments) -> tuple[bool, str]:
    """Kill a process after the first update; return whether the other tells why it ends, and its messages."""
    processes = two_processes(*arguments)
    try:
        main, seen = processes[0], ""
        while "step 1," not in seen:
            read = main.stderr.read(1)
            assert read, seen
            seen += read
        processes[killed].send_signal(signal.SIGKILL)
        started = time.monotonic()
        messages = processes[1 - killed].communicate(timeout=60)[1]
        assert time.monotonic() - started < 10
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert processes[1 - killed].returncode == 1
    reason = (
        f"error: process {killed} of this run (PID {processes[killed].pid}) has ended: its own messages may tell why;"
    )
    return messages.strip().splitlines()[-1].startswith(reason), messages


@pytest.mark.slow
@needs_linux
@pytest.mark.parametrize(("program", "killed"), [("a training", 1), ("a process that hangs", 0)])
def test_the_other_process_ends_within_ten_seconds_and_says_why(people_files, tmp_path, program, killed):
    training = ["-m", "birthgpt", "pretrain", "--train_file", people_files / "wiki.txt", "--output_dir", tmp_path]
    training += ["--objective", "name_first", *TINY, "--max_train_steps", 100000, "--logging_steps", 1]
    tells_why, messages = survivor_of(killed, *(training if program == "a training" else ["-c", HANGS]))
    assert tells_why, messages
    assert "Traceback" not in messages


@pytest.mark.slow
@needs_linux
def test_a_process_that_has_finished_is_not_missed():
    for process in two_processes("-c", ENDS):
        messages = process.communicate(timeout=60)[1]
        assert process.returncode == 0 and "has ended" not in messages, messages


def test_a_broken_connection_is_one_line_in_every_command_and_other_errors_stay(capsys):
    def fail(settings):
        raise RuntimeError(settings.output_dir)

    command = Command(PeopleSettings, fail)
    with pytest.raises(SystemExit) as exit_status:
        command(["--output_dir", "[gloo/transport/tcp/pair.cc:537] Connection reset by peer"])
    assert exit_status.value.code == 1
    assert re.fullmatch(r"error: another process has ended \(.*reset by peer\)\n", capsys.readouterr().err)
    with pytest.raises(RuntimeError):
        command(["--output_dir", "something else"])
