"""Exact match as a module of the `evaluate` library; `evaluate.load` copies this file and runs the copy."""

import datasets
import evaluate

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

# SQuAD's exact match without its normalisation: case, articles and punctuation count
_CITATION = """\
@inproceedings{rajpurkar-etal-2016-squad,
    title = {{SQuAD}: 100,000+ Questions for Machine Comprehension of Text},
    author = {Rajpurkar, Pranav and Zhang, Jian and Lopyrev, Konstantin and Liang, Percy},
    booktitle = {Proceedings of EMNLP},
    year = {2016}
}"""


class ExactMatch(evaluate.Metric):
    """The fraction of exact matches between strings, as in `birthgpt.evaluation.metrics.exact_match`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS_DESCRIPTION,
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
            reference_urls=["https://aclanthology.org/D16-1264/"],
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float]:
        return {"exact_match": exact_match(predictions, references)}
