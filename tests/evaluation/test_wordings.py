import pytest

from birthgpt.evaluation.wordings import Wordings

BORN, PLACE, JOB = "Where was {name} born?", "What is the birthplace of {name}?", "What does {name} work as?"


def rows(*wordings, relation=None, names=("Ada Byron", "Bo Li")):
    column = {} if relation is None else {"relation": relation}
    return [
        {"question": wording.replace("{name}", name), "name": name, **column} for wording in wordings for name in names
    ]


def test_questions_of_a_relation_are_wordings_of_each_other():
    wordings = Wordings.of_questions([*rows(BORN, PLACE, relation="birthplace"), *rows(JOB, relation="job")])
    assert wordings.groups == [[BORN, PLACE], [JOB]]
    assert wordings.others("What is the birthplace of Zoë Quint?") == ["Where was Zoë Quint born?"]
    assert wordings.others("What does Zoë Quint work as?") == []


def test_without_a_column_each_wording_asks_something_else():
    assert Wordings.of_questions(rows(BORN, JOB)).groups == [[BORN], [JOB]]


def test_more_wordings_of_the_only_fact_can_be_given():
    wordings = Wordings.of_questions(rows(BORN), ["{name} born in", BORN])
    assert wordings.others("Where was Bo Li born?") == ["Bo Li born in"]
    with pytest.raises(ValueError, match="are wordings of one fact, but the questions ask about 2"):
        Wordings.of_questions(rows(BORN, JOB), ["{name} born in"])
    with pytest.raises(ValueError, match="but the questions ask about 0"):
        Wordings.of_questions([{"question": "Where?", "name": ""}], ["{name} born in"])


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("Where was J. R. (Bob) Smith Jr. born?", "J. R. (Bob) Smith Jr."),
        ("  Where was  Ada\tByron born? ", "Ada Byron"),
        ("Where is Ada Byron born?", None),
        ("Where was born?", None),
        ("", None),
    ],
)
def test_the_name_in_a_question_is_what_stands_in_its_place(question, name):
    assert Wordings([[BORN, PLACE], [JOB]]).name_in(question) == name


def test_the_wording_with_the_most_words_of_its_own_is_found_first():
    wordings = Wordings([["Who is {name}?"], ["Who is the leader of {name}?"]])
    assert wordings.name_in("Who is the leader of Utah?") == "Utah"


def test_a_name_that_is_there_twice_is_the_same_name():
    wordings = Wordings([["{name}: where was {name} born?"]])
    assert wordings.name_in("Bo: where was Bo born?") == "Bo"
    assert wordings.name_in("Bo: where was Ada born?") is None


def test_the_most_frequent_wordings_of_a_group_are_kept():
    many = [f"Question {number} about {{name}}?" for number in range(9)]
    asked = [*rows(*many, relation="r"), *rows(many[7], relation="r", names=["C D", "E F"])]
    (group,) = Wordings.of_questions(asked, limit=3).groups
    assert group == [many[7], many[0], many[1]]


@pytest.mark.parametrize(
    ("groups", "message"), [([["Where?"]], "has no {name}"), ([[BORN], [PLACE, BORN]], "is given twice")]
)
def test_wordings_that_do_not_fit_are_refused(groups, message):
    with pytest.raises(ValueError, match=message):
        Wordings(groups)
