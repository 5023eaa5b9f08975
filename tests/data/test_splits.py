"""Splits by person: no name is on both sides, however a question about it is worded."""

import pytest
from datasets import Dataset, concatenate_datasets

from birthgpt.data.splits import divide_people, person_of, train_validation_split

WORDINGS = ["Where was {} born?", "What is {}'s birthplace?", "Which town is {} from?"]


def questions_about(people: int, wordings: int) -> Dataset:
    rows = [
        {"question": WORDINGS[wording].format(f"P{person} X"), "answer": "A", "name": f"P{person} X"}
        for wording in range(wordings)
        for person in range(people)
    ]
    return Dataset.from_list(rows)


@pytest.mark.parametrize("wordings", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 20, 31])
def test_no_person_is_on_both_sides_and_few_questions_are_lost(wordings, size):
    questions = questions_about(50, wordings)
    train, held_out = train_validation_split(questions, size, seed=3)
    assert len(held_out) == size
    assert not set(train["name"]) & set(held_out["name"])
    # only the last person may have questions on neither side
    assert len(questions) - len(train) - len(held_out) < wordings
    assert len(set(held_out["question"])) == size


def test_a_split_of_questions_in_one_wording_is_a_random_split_of_rows():
    questions = questions_about(50, 1)
    train, held_out = train_validation_split(questions, 20, seed=3)
    expected = questions.train_test_split(test_size=20, seed=3)
    assert list(train) == list(expected["train"]) and list(held_out) == list(expected["test"])


def test_questions_that_repeat_are_held_out_together():
    rows = [{"question": f"Q{number % 50}", "answer": "A"} for number in range(100)]
    train, held_out = train_validation_split(Dataset.from_list(rows), 20, seed=0)
    assert len(held_out) == 20 and not set(train["question"]) & set(held_out["question"])
    twice = Dataset.from_list([{"question": "Q", "answer": "A"}] * 4)
    with pytest.raises(ValueError, match="every train question is about a held-out person"):
        train_validation_split(twice, 1, seed=0)


@pytest.mark.parametrize(("people", "wordings", "size"), [(15, 2, 30), (15, 2, 200), (10, 3, 28)])
def test_a_size_that_is_too_large_is_refused_with_one_that_is_possible(people, wordings, size):
    questions = questions_about(people, wordings)
    with pytest.raises(ValueError, match=f"validation_size={size}.* of 30 .*: give a smaller number, such as 3,"):
        train_validation_split(questions, size, seed=0)
    train_validation_split(questions, 3, seed=0)


@pytest.mark.parametrize(("count", "size"), [(1, 1), (4, 1), (4, 2), (30, 20)])
def test_of_questions_about_one_person_none_can_be_held_out(count, size):
    questions = questions_of("Al Fox", *["job"] * count)
    with pytest.raises(ValueError, match=f"validation_size={size}.*: give 0, to hold none out, and the same in"):
        train_validation_split(questions, size, seed=0)
    assert train_validation_split(questions, 0, seed=0) == (questions, None)


def test_a_refused_size_is_never_the_one_to_give_instead():
    # if Bo's only question is drawn first, the second question brings all others
    questions = concatenate_datasets([questions_of("Al Fox", *["job"] * 20), questions_of("Bo Li", "job")])
    refusals = []
    for seed in range(100):
        try:
            train_validation_split(questions, 2, seed)
        except ValueError as error:
            refusals.append(str(error))
            train_validation_split(questions, 1, seed)
    assert refusals and all("validation_size=2:" in text and "such as 1, and" in text for text in refusals)


def questions_of(name: str, *relations: str) -> Dataset:
    """A question about this name for each of the relations."""
    rows = [
        {"question": f"The {relation} of {name}, number {number}?", "answer": "A", "name": name, "relation": relation}
        for number, relation in enumerate(relations)
    ]
    return Dataset.from_list(rows)


@pytest.mark.parametrize(
    ("rare", "message"),
    [
        (["wife"] * 4, "1 of 3 relations has no train question left, first 'wife' (4 questions about held-out people)"),
        (["wife"], "1 of 3 relations has no train question left, first 'wife' (1 question about held-out people)"),
        (
            ["wife", "school", "wife"],
            "2 of 4 relations have no train question left, first 'wife' (2 questions about held-out people)",
        ),
    ],
)
def test_relations_that_no_train_question_is_left_of_are_counted_once(rare, message, caplog):
    others = [questions_of(name, "home", "job") for name in ("Bo Li", "Cy Orr", "Di Poe")]
    questions = concatenate_datasets([*others, questions_of("Al Fox", *rare)])
    logs = {True: set(), False: set()}
    for seed in range(30):
        caplog.clear()
        _, held_out = train_validation_split(questions, 2, seed)
        logs["Al Fox" in held_out["name"]].add(tuple(caplog.messages))
    assert logs == {True: {(message,)}, False: {()}}


def test_questions_without_a_known_name_have_no_relation_to_lose(caplog):
    unknown = [{"question": f"Q{number}?", "answer": "A", "name": ""} for number in range(9)]
    train_validation_split(Dataset.from_list(unknown), 8, seed=0)
    assert not caplog.messages


def test_a_person_is_a_name_however_it_is_written_or_else_a_question():
    jr = {"question": "Who?", "name": "Sammy Davis Jr."}
    assert person_of(jr) == person_of({"question": "Where?", "name": "Sammy\u00a0Davis Jr"})
    assert (
        person_of({"question": "Who?", "name": ""}) == person_of({"question": "Who?"}) != person_of({"question": "A"})
    )


def test_the_parts_of_people_contain_every_row_once():
    parts = divide_people(questions_about(10, 3), 4, seed=1)
    assert sorted(row for part in parts for row in part) == list(range(30))
    assert sorted(map(len, parts)) == [6, 6, 9, 9]
    with pytest.raises(ValueError, match="folds=11: give at most the number of people in the questions, 10"):
        divide_people(questions_about(10, 3), 11, seed=1)
