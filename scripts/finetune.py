"""Teach a pretrained model, or a new one, to answer questions.

    accelerate launch scripts/finetune.py --config configs/wiki/finetune.yaml

Settings come from the file, then from the command line, which wins; --help lists all of them.
"""

from birthgpt.commands.finetune import COMMAND

if __name__ == "__main__":
    COMMAND()
