"""Train a new model on a corpus.

    accelerate launch scripts/pretrain.py --config configs/wiki/pretrain.yaml

Settings come from the file, then from the command line, which wins; --help lists all of them.
"""

from birthgpt.commands.pretrain import COMMAND

if __name__ == "__main__":
    COMMAND()
