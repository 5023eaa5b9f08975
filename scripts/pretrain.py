"""Train a new model on a corpus.

    accelerate launch scripts/pretrain.py --config configs/wiki/pretrain.yaml

Settings are read from the file, then from the command line, which wins; --help lists them all.
"""

from birthgpt.commands.command_line import print_summary, run_script
from birthgpt.commands.pretrain import pretrain
from birthgpt.training.arguments import PRETRAIN_ARGUMENTS

if __name__ == "__main__":
    print_summary(run_script(pretrain, PRETRAIN_ARGUMENTS, __doc__))
