"""F1 of words as a module of the `evaluate` library; `evaluate.load` copies this file and runs the copy."""

import datasets
import evaluate

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

_CITATION = """\
@inproceedings{rajpurkar-etal-2016-squad,
    title = {{SQuAD}: 100,000+ Questions for Machine Comprehension of Text},
    author = {Rajpurkar, Pranav and Zhang, Jian and Lopyrev, Konstantin and Liang, Percy},
    booktitle = {Proceedings of EMNLP},
    year = {2016}
}"""


class F1(evaluate.Metric):
    """The mean of `birthgpt.evaluation.squad.f1` over pairs of strings."""

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
        if not predictions:
            raise ValueError("f1: there are no predictions")
        scores = [f1(prediction, [reference]) for prediction, reference in zip(predictions, references, strict=True)]
        return {"f1": sum(scores) / len(scores)}
