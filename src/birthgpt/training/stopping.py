"""Stop a run by Ctrl-C or SIGTERM: after the update that is being computed, so that a checkpoint can be written."""

import os
import signal
import threading
import time
from collections.abc import Sequence
from types import FrameType
from typing import Any

from birthgpt.utils.environment import launcher

SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
"""The signals that ask a run to stop, and their names in messages."""

SECONDS_TO_REPEAT = 1.0
"""A second Ctrl-C ends the run at once, but programs such as `timeout` send each signal twice."""


class Stopped(KeyboardInterrupt):
    """A run has stopped after an update, because of a signal. The message tells how it can go on.

    Args:
        signum: the signal.
        step: the last update.
        output_dir: the folder of the run.
        saved: whether a checkpoint was written after this update.
    """

    def __init__(self, signum: signal.Signals, step: int, output_dir: str, saved: bool):
        found = (
            f"checkpoint-{step} is in {output_dir}: the same command with --resume_from_checkpoint latest continues it"
            if saved
            else "no checkpoint is written, because save_steps is 0"
        )
        super().__init__(f"stopped by {SIGNALS[signum]} after update {step}; {found}")
        self.exit_code = 128 + signum


class StopSignals:
    """Context in which SIGINT and SIGTERM do not end the program: they are recorded, and processes agree on them.

    Outside of the main thread, where Python allows no handlers, it does nothing. A signal that is ignored when the
    context begins stays ignored. A later SIGINT raises KeyboardInterrupt. If a launcher started the process, the end
    of the launcher counts as SIGTERM: `accelerate launch` of one process passes no signal on.
    """

    def __init__(self) -> None:
        self.agreed: signal.Signals | None = None
        self._received: dict[signal.Signals, float] = {}
        self._handlers: dict[signal.Signals, Any] = {}
        self._launcher = launcher()

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                if signal.getsignal(signum) != signal.SIG_IGN:
                    self._handlers[signum] = signal.signal(signum, self._record)
        return self

    def __exit__(self, *error: object) -> None:
        for signum, handler in self._handlers.items():
            signal.signal(signum, handler)
        self._handlers = {}

    def flags(self) -> list[int]:
        """0 or 1 for each of `SIGNALS`: whether this process has received it."""
        if self._launcher not in (None, os.getppid()):
            self._received.setdefault(signal.SIGTERM, time.monotonic())
        return [int(signum in self._received) for signum in SIGNALS]

    def agree(self, flags: Sequence[int]) -> None:
        """Set `agreed` to the first signal that some process has received.

        Args:
            flags: the sums of `flags` over all processes.
        """
        self.agreed = next((signum for signum, flag in zip(SIGNALS, flags, strict=True) if flag), None)

    def _record(self, number: int, frame: FrameType | None) -> None:
        signum = signal.Signals(number)
        first = self._received.setdefault(signum, time.monotonic())
        if signum == signal.SIGINT and time.monotonic() - first > SECONDS_TO_REPEAT:
            raise KeyboardInterrupt


def leave_signals_to_main_process(worker_id: int = 0) -> None:
    """Ignore the signals in a process that makes batches: the main process ends its workers when it stops."""
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
