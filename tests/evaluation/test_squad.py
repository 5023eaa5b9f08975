"""Normalised match and F1 as the evaluation script of SQuAD v1.1 computes them."""

import re
import string
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birthgpt.evaluation.squad import f1, normalize_answer, normalized_match


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("The  Hague", "hague"),
        ("Dorton, Ohio", "dorton ohio"),
        ("F.C. Anderlecht", "fc anderlecht"),
        ("a theatre and an opera", "theatre and opera"),
        ("Ünlü", "ünlü"),
        ("the", ""),
    ],
)
def test_case_punctuation_articles_and_spaces_do_not_count(text, normalized):
    assert normalize_answer(text) == normalized


@pytest.mark.parametrize(
    ("prediction", "answers", "matches", "ratio"),
    [
        ("the Hague", ["Hague", "Den Haag"], True, 1.0),
        ("den haag.", ["Hague", "Den Haag"], True, 1.0),
        # precision 1/2, recall 1
        ("Dorton Iowa", ["Dorton"], False, 2 / 3),
        # the best of both
        ("Dorton Iowa", ["Rome", "Dorton, Ohio"], False, 0.5),
        ("Rome Rome", ["Rome"], False, 2 / 3),
        ("Bonn", ["Rome"], False, 0.0),
        ("", ["Rome"], False, 0.0),
    ],
)
def test_the_best_of_several_answers_counts(prediction, answers, matches, ratio):
    assert normalized_match(prediction, answers) == matches
    assert f1(prediction, answers) == pytest.approx(ratio)


def reference_f1(prediction, truth):
    """F1 by precision and recall, step by step."""

    def words(text):
        text = "".join(character for character in text.lower() if character not in set(string.punctuation))
        return re.sub(r"\b(a|an|the)\b", " ", text).split()

    common = Counter(words(prediction)) & Counter(words(truth))
    same = sum(common.values())
    if same == 0:
        return 0
    precision, recall = same / len(words(prediction)), same / len(words(truth))
    return 2 * precision * recall / (precision + recall)


TEXTS = st.lists(st.sampled_from("the a Rome, rome Bonn F.C. an York".split()), max_size=6).map(" ".join)


@settings(deadline=None, derandomize=True)
@given(prediction=TEXTS, answer=TEXTS)
def test_f1_is_the_harmonic_mean_of_precision_and_recall(prediction, answer):
    assert f1(prediction, [answer]) == pytest.approx(reference_f1(prediction, answer))
