"""evaluate: exact match and F1, loaded and combined."""

import evaluate
from birthgpt.evaluation import exact_match, f1

metrics = evaluate.combine([evaluate.load(module.__path__[0]) for module in (exact_match, f1)])
result = metrics.compute(predictions=["Paris", "New York"], references=["Paris", "York"])
