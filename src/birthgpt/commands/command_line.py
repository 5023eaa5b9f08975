"""What every script does around its one call."""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict

import datasets
import transformers
from accelerate import PartialState

from birthgpt.training.arguments import parse_arguments
from birthgpt.training.trainer import TrainingSummary
from birthgpt.utils.tables import text_table

SUMMARY = ("steps", "tokens", "target_ratio", "parameters", "flops", "seconds", "tokens_per_second", "loss")


def run_script(
    function: Callable, argument_classes: Sequence[type], description: str, *, several_processes: bool = True
):
    """Parse the command line into `argument_classes` and call `function` with them.

    Without `several_processes` it refuses to be launched as more than one: all of them would write the same files.
    What a user can mend (a ValueError) is one line on stderr and exit code 2, without a traceback.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for noisy in ("httpx", "filelock", "accelerate", "torch"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    try:
        if not several_processes and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ValueError("this script runs in one process: start it by python, not by accelerate launch")
        return function(*parse_arguments(argument_classes, description=description))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def print_summary(summary: TrainingSummary | None) -> None:
    """What a training did, as a table of one row; nothing for a dry run, or from any but the main process."""
    if summary is not None and PartialState().is_main_process:
        print(text_table([asdict(summary)], SUMMARY))
