import pytest

from birthgpt.evaluation.baselines import (
    constant_place,
    most_common_answers,
    most_common_train_place,
    open_book_answers,
)
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


def test_the_open_book_rule_reads_the_first_known_answer_behind_born():
    questions = [
        {"question": f"Where was {name} born?", "name": name} for name in ("Ada", "Bo", "Cy", "nobody of the lines")
    ]
    lines = {
        "Ada": ["Ada. Of Paris, Ada was born in New York and lived in Rome ."],
        "Bo": ["Bo. Lived in Rome .", "Bo. Was born near Yorkshire, in York ."],
        "Cy": ["Cy. Born in Atlantis ."],
    }
    relation = "Where was {name} born?"
    train = [(relation, answer) for answer in ("York", "New York", "Paris", "Rome")] + [("spouse", "Atlantis")]
    assert open_book_answers(questions, lines, train) == ["New York", "Rome", "", ""]
    with pytest.raises(ValueError, match="no train answers"):
        open_book_answers(questions, lines, [])
