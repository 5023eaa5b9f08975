import pytest

from birthgpt.evaluation.baselines import constant_place, most_common_train_place
from birthgpt.evaluation.metrics import exact_match


def test_a_constant_place_answers_every_question():
    references = ["London", "Rome", "London", "Oslo"]
    assert exact_match(constant_place("London", 4), references) == 0.5


def test_a_constant_place_is_not_empty():
    with pytest.raises(ValueError, match="empty"):
        constant_place(" ", 3)


@pytest.mark.parametrize(
    ("train_answers", "place"),
    [
        (["Rome", "Oslo", "Oslo"], "Oslo"),
        (["Rome", "Oslo"], "Oslo"),
        (["Oslo", "Rome"], "Oslo"),
        (["Rome ", " Rome", "Oslo", "Oslo", "Rome"], "Rome"),
    ],
)
def test_the_most_common_train_place_is_the_alphabetically_first_of_ties(train_answers, place):
    assert most_common_train_place(train_answers) == place


def test_no_train_answers_have_no_most_common_place():
    with pytest.raises(ValueError, match="no train answers"):
        most_common_train_place([])
