"""Answer questions by a checkpoint, and say how many answers are right.

    accelerate launch scripts/evaluate.py --config configs/wiki/evaluate.yaml

Settings are read from the file, then from the command line, which wins; --help lists them all.
"""

from birthgpt.runs.command_line import run_script
from birthgpt.runs.evaluating import evaluate
from birthgpt.training.arguments import EvaluationArguments

if __name__ == "__main__":
    figures = run_script(evaluate, (EvaluationArguments,), __doc__)
    if figures is not None:
        print(f"{figures['name']}: {figures['correct']} of {figures['total']} right, {figures['accuracy']:.1%}")
