"""The class of all commands, which reads settings, calls a function and shows the result."""

import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import transformers

from birthgpt.settings import parse_settings
from birthgpt.training.peers import LostProcess, is_lost_connection
from birthgpt.training.stopping import Stopped
from birthgpt.utils.errors import failed_path, first_line, one_line


def show_nothing(result: Any) -> None:
    """Do nothing, for a command that prints while it runs."""


@dataclass(frozen=True)
class Command:
    """A command of `birthgpt`, and of the script with the same name.

    Args:
        settings: the dataclass of its settings.
        run: called with the settings.
        show: prints what `run` returned.
        positional: settings that may be given without their names, in this order.
        file_of: the settings of another command, whose configurations this command also reads.
        several_processes: whether it can run in several processes; False if all of them would write the same files.
    """

    settings: type
    run: Callable[[Any], Any]
    show: Callable[[Any], None] = show_nothing
    positional: tuple[str, ...] = ()
    file_of: type | None = None
    several_processes: bool = True

    def __call__(self, arguments: Sequence[str] | None = None, prog: str | None = None) -> None:
        """Parse the command line, run, and show the result.

        A ValueError is an error that a user can correct: one line on stderr without a traceback, and exit code 2.
        So is an error of the system about a path.
        After Ctrl-C the exit code is 130, and 143 if SIGTERM stopped a training;
        it is 1 if another process of the run has ended.
        """
        quiet_libraries()
        arguments = name_positional(list(sys.argv[1:] if arguments is None else arguments), self.positional)
        try:
            if not self.several_processes and int(os.environ.get("WORLD_SIZE", "1")) > 1:
                raise ValueError("this command runs in one process: start it with python, not with accelerate launch")
            settings: Any = parse_settings(self.settings, arguments, prog=prog, file_of=self.file_of)
            self.show(self.run(settings))
        except ValueError as error:
            print(f"error: {one_line(error)}", file=sys.stderr)
            sys.exit(2)
        except OSError as error:
            # an error about a path is one of what was given, such as a name that is too long
            if error.filename is None:
                raise
            print(f"error: {one_line(ValueError(failed_path(error)))}", file=sys.stderr)
            sys.exit(2)
        except Stopped as stop:
            # every process stops, for the same reason
            if os.environ.get("RANK", "0") == "0":
                print(stop, file=sys.stderr)
            sys.exit(stop.exit_code)
        except RuntimeError as error:
            if not is_lost_connection(error):
                raise
            reason = error if isinstance(error, LostProcess) else f"another process has ended ({first_line(error)})"
            print(f"error: {reason}", file=sys.stderr)
            sys.exit(1)
        except KeyboardInterrupt:
            print("stopped by Ctrl-C", file=sys.stderr)
            sys.exit(128 + signal.SIGINT)


def name_positional(arguments: list[str], names: Sequence[str]) -> list[str]:
    """`checkpoint question --flag` → `--name checkpoint --name question --flag`."""
    named: list[str] = []
    for name in names:
        if not arguments or arguments[0].startswith("--"):
            break
        named += [f"--{name}", arguments.pop(0)]
    return named + arguments


def quiet_libraries() -> None:
    """Log our own messages, and hide progress bars and details of the libraries."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for noisy in ("httpx", "httpx2", "filelock", "accelerate", "torch"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
