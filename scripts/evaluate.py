"""Answer questions by a checkpoint, and say how many answers are right.

    accelerate launch scripts/evaluate.py --config configs/wiki/evaluate.yaml

Settings are read from the file, then from the command line, which wins; --help lists them all.
"""

from birthgpt.commands.command_line import run_script
from birthgpt.commands.evaluate import evaluate
from birthgpt.training.arguments import EvaluationArguments

if __name__ == "__main__":
    metrics = run_script(evaluate, (EvaluationArguments,), __doc__)
    if metrics is not None:
        print(f"{metrics['name']}: {metrics['correct']} of {metrics['total']} right, {metrics['accuracy']:.1%}")
