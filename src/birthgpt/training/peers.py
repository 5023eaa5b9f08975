"""End all processes of a run if one of them has ended: the others would wait for it in their next exchange.

Launchers then send SIGTERM to the processes of a machine, but a training takes this for a wish to stop after an update.
gloo notices a closed connection at once, NCCL only after minutes.
"""

import os
import platform
import select
import sys
import threading
from types import TracebackType

import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import gather_object

SECONDS_TO_END = 5.0
"""How long a process may take to end with an error of its own, or to finish, after it has lost another one."""


class LostProcess(RuntimeError):
    """Another process of the run has ended."""


def is_lost_connection(error: RuntimeError) -> bool:
    """Whether an exchange between processes failed because one of them has ended, or cannot be reached."""
    return isinstance(error, (LostProcess, dist.DistError)) or "gloo/transport" in str(error)


class PeerWatch:
    """Context in which a process ends if another process of its run, on the same machine, has ended.

    A RuntimeError, as of a broken connection, is replaced by `LostProcess`, which tells the reason. If there is none
    within `SECONDS_TO_END`, the program is ended. This needs Linux; elsewhere, and for other machines, nothing is done.
    """

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.lost = threading.Event()
        self.reason = ""
        self.descriptors: dict[int, str] = {}
        self.thread: threading.Thread | None = None

    def __enter__(self) -> "PeerWatch":
        if self.accelerator.num_processes == 1 or not hasattr(os, "pidfd_open"):
            return self
        own = (self.accelerator.process_index, _machine(), os.getpid())
        self.ended, self.end = os.pipe()
        for rank, machine, process in gather_object([own]):
            if machine == own[1] and process != own[2]:
                self._watch(rank, process)
        self.thread = threading.Thread(target=self._wait, name="peers", daemon=True)
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.thread is None:
            return
        # the connection may break before the other process has ended
        is_lost = isinstance(error, RuntimeError) and self.lost.wait(SECONDS_TO_END / 2)
        # closing it would not be noticed, because workers of a DataLoader have copies
        os.write(self.end, b".")
        self.thread.join()
        for descriptor in (self.end, self.ended, *self.descriptors):
            os.close(descriptor)
        self.thread, self.descriptors = None, {}
        if is_lost:
            raise LostProcess(self.reason) from error

    def _watch(self, rank: int, process: int) -> None:
        try:
            self.descriptors[os.pidfd_open(process)] = f"process {rank} of this run (PID {process})"
        except ProcessLookupError:
            self._lose(f"process {rank} of this run (PID {process})")
        except OSError:
            # this system does not watch processes
            pass

    def _lose(self, name: str) -> None:
        self.reason = (
            f"{name} has ended: its own messages may tell why; with --resume_from_checkpoint latest, the run continues "
            "from its last checkpoint"
        )
        self.lost.set()

    def _wait(self) -> None:
        """Wait for the end of a process, or of the context; end the program if it hangs."""
        events = select.poll()
        for descriptor in (self.ended, *self.descriptors):
            events.register(descriptor, select.POLLIN)
        if not self.lost.is_set():
            ready = {descriptor for descriptor, _ in events.poll()}
            if self.ended in ready:
                return
            self._lose(self.descriptors[min(ready)])
        context = select.poll()
        context.register(self.ended, select.POLLIN)
        if not context.poll(SECONDS_TO_END * 1000):
            print(f"error: {self.reason}", file=sys.stderr, flush=True)
            os._exit(1)


def _machine() -> tuple[str, str]:
    """The host and its space of process numbers: containers may have the same host name."""
    return platform.node(), os.readlink("/proc/self/ns/pid")
