"""What the modules of the `evaluate` library say of themselves."""

import datasets
import evaluate

_CITATION = """\
@inproceedings{rajpurkar-etal-2016-squad,
    title = {{SQuAD}: 100,000+ Questions for Machine Comprehension of Text},
    author = {Rajpurkar, Pranav and Zhang, Jian and Lopyrev, Konstantin and Liang, Percy},
    booktitle = {Proceedings of EMNLP},
    year = {2016}
}"""


def metric_info(description: str, inputs_description: str) -> evaluate.MetricInfo:
    """What a module of the `evaluate` library says of itself, for a metric of pairs of strings from SQuAD."""
    return evaluate.MetricInfo(
        description=description,
        citation=_CITATION,
        inputs_description=inputs_description,
        features=datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")}),
        reference_urls=["https://aclanthology.org/D16-1264/"],
    )
