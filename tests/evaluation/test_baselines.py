import pytest

from birthgpt.evaluation.baselines import constant_place, most_common_answers, most_common_train_place
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


TRAIN = [("home", "Rome"), ("home", "Oslo"), ("home", "Oslo"), ("job", "poet"), ("", "Rome"), ("", "Rome")]


def test_the_most_common_answer_is_that_of_the_relation_or_else_of_all_questions():
    assert most_common_answers(["job", "home", "age", "", "home"], TRAIN) == ["poet", "Oslo", "Rome", "Rome", "Oslo"]


def test_with_one_relation_every_question_has_the_most_common_train_answer():
    answers = ["Rome", "Oslo", "Oslo"]
    guesses = most_common_answers(["home"] * 2, [("home", answer) for answer in answers])
    assert guesses == constant_place(most_common_train_place(answers), 2)


def test_no_train_questions_have_no_most_common_answer():
    with pytest.raises(ValueError, match="no train answers"):
        most_common_answers(["home"], [])
