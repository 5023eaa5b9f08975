"""Teach a pretrained model, or a new one, to answer questions.

    accelerate launch scripts/finetune.py --config configs/wiki/finetune.yaml

Settings are read from the file, then from the command line, which wins; --help lists them all.
"""

from birthgpt.commands.command_line import print_summary, run_script
from birthgpt.commands.finetune import finetune
from birthgpt.training.arguments import FINETUNE_ARGUMENTS

if __name__ == "__main__":
    print_summary(run_script(finetune, FINETUNE_ARGUMENTS, __doc__))
