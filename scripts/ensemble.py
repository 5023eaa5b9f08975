"""Ask several checkpoints as one; with --label_names, also write questions that a single model can learn from.

    python scripts/ensemble.py --config configs/wiki/ensemble.yaml

Settings are read from the file, then from the command line, which wins; --help lists them all.
"""

from birthgpt.commands.command_line import run_script
from birthgpt.commands.ensemble import ensemble
from birthgpt.training.arguments import EnsembleArguments

if __name__ == "__main__":
    metrics = run_script(ensemble, (EnsembleArguments,), __doc__)
    if metrics is not None:
        print(f"{metrics['name']}: {metrics['correct']} of {metrics['total']} right, {metrics['accuracy']:.1%}")
