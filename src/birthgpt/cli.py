"""`birthgpt <command>`: the same settings and errors as the scripts, from any folder."""

import sys
from collections.abc import Sequence
from importlib import import_module

from birthgpt import __version__
from birthgpt.commands.command import Command
from birthgpt.settings import did_you_mean

COMMANDS = {
    "quickstart": "from nothing to a trained, answering model in a few minutes",
    "people": "write biographies of synthetic people, and questions about them",
    "synthesize": "write lines and questions from a table, in the wordings of templates",
    "extract": "write questions whose answers stand in the lines of a corpus, found by patterns",
    "preview": "print examples as the model sees them",
    "pretrain": "train a new model on a corpus",
    "finetune": "teach a model to answer questions",
    "calibrate": "learn from held-out people when an answer is right",
    "evaluate": "answer questions, and measure how many answers are right",
    "ask": "ask a checkpoint one question, or many",
    "app": "serve a page to ask checkpoints, on this machine",
    "probe": "measure which answers a checkpoint recalls, and after what",
    "ensemble": "let several checkpoints answer as one",
    "compare": "print metrics side by side",
    "report": "write a page about runs, which needs no network",
    "split": "divide questions into folds",
    "push": "export a checkpoint with its code, and push it to the Hub",
    "verify": "check that the files of a checkpoint, an export or a run are as they were saved",
    "convert": "convert a checkpoint of an earlier version, or one in shards",
}
"""Each command is a module of `birthgpt.commands` with a `COMMAND`."""

USAGE = """usage: birthgpt COMMAND [--config FILE.yaml] [--setting value …]

commands:
{commands}

`birthgpt COMMAND --help` lists the settings of a command. `--config` takes a file, or the name of a configuration that
comes with the package, such as quickstart/pretrain or wiki/finetune. Start with:

    birthgpt quickstart
    birthgpt ask runs/quickstart/with_pretraining "Where was Simon Quintatos born?"

For several processes or GPUs, launch a training with accelerate:

    accelerate launch -m birthgpt pretrain --config wiki/pretrain
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; without a command, print all of them."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return
    if arguments[0] == "--version":
        print(f"birthgpt {__version__}")
        return
    name, *rest = arguments
    if name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS)
        print(f"error: birthgpt has no command {name!r}{f'; {hint}' if hint else ''}\n\n{usage()}", file=sys.stderr)
        sys.exit(2)
    find_command(name)(rest, prog=f"birthgpt {name}")


def find_command(name: str) -> Command:
    """The command with this name."""
    return import_module(f"birthgpt.commands.{name}").COMMAND


def usage() -> str:
    """The help of `birthgpt`, with one line per command."""
    return USAGE.format(commands="\n".join(f"    {name:12} {text}" for name, text in COMMANDS.items()))
