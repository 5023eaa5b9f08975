"""Normalised match and F1 of answers, as `evaluate-v1.1.py` of SQuAD (Rajpurkar et al., 2016, 1606.05250) defines them.

Both forgive case, punctuation and English articles. The `squad` metric of the `evaluate` library computes the same, but
it is downloaded from the Hub.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """The text in lower case, without ASCII punctuation and without the words a, an and the."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def normalized_match(prediction: str, answers: Sequence[str]) -> bool:
    """Whether a prediction equals one of the right answers after normalisation."""
    return normalize_answer(prediction) in map(normalize_answer, answers)


def f1(prediction: str, answers: Sequence[str]) -> float:
    """The best F1 (0..1) of the words of a prediction with those of a right answer."""
    return max(_f1(prediction, answer) for answer in answers)


def _f1(prediction: str, answer: str) -> float:
    predicted, expected = (normalize_answer(text).split() for text in (prediction, answer))
    same = (Counter(predicted) & Counter(expected)).total()
    # 2 · precision · recall / (precision + recall)
    return 2 * same / (len(predicted) + len(expected)) if same else 0.0
