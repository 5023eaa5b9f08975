"""F1 of words as a module of the `evaluate` library; `evaluate.load` copies this file and runs the copy."""

import evaluate

from birthgpt.evaluation.metric_info import metric_info
from birthgpt.evaluation.squad import f1

_DESCRIPTION = "The mean F1 of the words of predictions with those of their references, as in SQuAD."

_INPUTS_DESCRIPTION = """
Args:
    predictions (`list` of `str`): the predicted answers.
    references (`list` of `str`): the true answers, in the same order.
Returns:
    `dict` with `f1` (`float`), between 0 and 1.
Raises:
    ValueError: there are no predictions.
"""


class F1(evaluate.Metric):
    """The mean of `birthgpt.evaluation.squad.f1` over pairs of strings."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info(_DESCRIPTION, _INPUTS_DESCRIPTION)

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float]:
        if not predictions:
            raise ValueError("f1: there are no predictions")
        scores = [f1(prediction, [reference]) for prediction, reference in zip(predictions, references, strict=True)]
        return {"f1": sum(scores) / len(scores)}
