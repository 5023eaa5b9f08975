"""What every script does around its one call."""

import logging
import sys
from collections.abc import Callable, Sequence

import datasets
import transformers

from birthgpt.training.arguments import parse_arguments


def run_script(function: Callable, argument_classes: Sequence[type], description: str):
    """Parse the command line into `argument_classes` and call `function` with them.

    What a user can mend (a ValueError) is one line on stderr and exit code 2, without a traceback.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for noisy in ("httpx", "filelock", "accelerate", "torch"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    try:
        return function(*parse_arguments(argument_classes, description=description))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
