"""Exact match as a module of the `evaluate` library; `evaluate.load` copies this file and runs the copy."""

import evaluate

from birthgpt.evaluation.metric_info import metric_info
from birthgpt.evaluation.metrics import exact_match

_DESCRIPTION = "The fraction of predictions that equal their reference exactly, except for outer spaces."

_INPUTS_DESCRIPTION = """
Args:
    predictions (`list` of `str`): the predicted answers.
    references (`list` of `str`): the true answers, in the same order.
Returns:
    `dict` with `exact_match` (`float`), a fraction between 0 and 1.
Raises:
    ValueError: the lists have different lengths or are empty.
"""


class ExactMatch(evaluate.Metric):
    """The fraction of exact matches between strings, as in `birthgpt.evaluation.metrics.exact_match`.

    It is SQuAD's exact match without the normalisation: case, articles and punctuation count.
    """

    def _info(self) -> evaluate.MetricInfo:
        return metric_info(_DESCRIPTION, _INPUTS_DESCRIPTION)

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float]:
        return {"exact_match": exact_match(predictions, references)}
