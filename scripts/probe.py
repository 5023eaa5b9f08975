"""Measure which answers a checkpoint recalls after a name, after words of the line, after the question.

    python scripts/probe.py --config configs/wiki/probe.yaml

Settings come from the file, then from the command line, which wins; --help lists all of them.
"""

from birthgpt.commands.probe import COMMAND

if __name__ == "__main__":
    COMMAND()
