"""Ask several checkpoints as one; with --label_names, also write questions that a single model can learn from.

    python scripts/ensemble.py --config configs/wiki/ensemble.yaml

Settings are read from the file, then from the command line, which wins; --help lists them all.
"""

from birthgpt.runs.command_line import run_script
from birthgpt.runs.ensembling import ensemble
from birthgpt.training.arguments import EnsembleArguments

if __name__ == "__main__":
    figures = run_script(ensemble, (EnsembleArguments,), __doc__)
    if figures is not None:
        print(f"{figures['name']}: {figures['correct']} of {figures['total']} right, {figures['accuracy']:.1%}")
