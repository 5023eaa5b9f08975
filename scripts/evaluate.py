"""Answer questions with a checkpoint, and measure how many answers are right.

    accelerate launch scripts/evaluate.py --config configs/wiki/evaluate.yaml

Settings come from the file, then from the command line, which wins; --help lists all of them.
"""

from birthgpt.commands.evaluate import COMMAND

if __name__ == "__main__":
    COMMAND()
