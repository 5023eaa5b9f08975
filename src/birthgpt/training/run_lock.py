"""The lock on the folder of a run, in one or several processes."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from accelerate import Accelerator

from birthgpt.training.processes import decided_by_main
from birthgpt.training.run_folder import RunSettings
from birthgpt.utils.locks import locked


@contextmanager
def locked_folder(run: RunSettings, accelerator: Accelerator) -> Iterator[None]:
    """Context in which no other run can use the folder; raises ValueError on every process if another run uses it."""
    with ExitStack() as lock:
        decided_by_main(lambda: lock.enter_context(locked(run.output_dir)), accelerator)
        yield
