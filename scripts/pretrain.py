"""Train a new model on a corpus.

    accelerate launch scripts/pretrain.py --config configs/wiki/pretrain.yaml

Settings are read from the file, then from the command line, which wins; --help lists them all.
"""

from birthgpt.runs.command_line import run_script
from birthgpt.runs.pretraining import pretrain
from birthgpt.training.arguments import (
    CorpusArguments,
    ModelArguments,
    OptimizationArguments,
    RunArguments,
    TokenizerArguments,
)

if __name__ == "__main__":
    groups = (CorpusArguments, TokenizerArguments, ModelArguments, OptimizationArguments, RunArguments)
    run_script(pretrain, groups, __doc__)
