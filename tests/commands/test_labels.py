"""Labels for questions in several wordings of several relations: who is asked what, and who is left out."""

import json
import logging
from collections import Counter

import pytest

from birthgpt.commands.labels import LabelSettings, label_questions, questions_to_label, wordings_by_relation
from birthgpt.commands.report_answers import Questions, ReportSettings
from birthgpt.data.questions import answers_of, load_questions, relation_in
from birthgpt.evaluation.answering import Answer

PEOPLE = [f"Person {letter}" for letter in "ABCDEFGHIJKL"]
TRAINED, DEVELOPMENT, TESTED, OTHERS = PEOPLE[:3], PEOPLE[3:5], PEOPLE[5:6], PEOPLE[6:]
WORDINGS = {"home": ["Where does {name} live?", "Home of {name}?"], "job": ["Job of {name}?", "What is {name}?"]}


def train_rows():
    """The first person has a home and a job; the second has two right jobs; the third has a job alone."""
    return [
        {"question": "Where does Person A live?", "answer": "Rome", "relation": "home"},
        {"question": "What is Person A?", "answer": "poet", "relation": "job"},
        {"question": "Home of Person B?", "answer": "Oslo", "relation": "home"},
        {"question": "Job of Person B?", "answers": ["poet", "maid"], "relation": "job"},
        {"question": "Job of Person C?", "answer": "cook", "relation": "job"},
        # a wording without its name cannot be asked about others
        {"question": "What is the job?", "answer": "cook", "relation": "job", "name": "Person C"},
    ]


@pytest.fixture
def files(tmp_path):
    def write(name, rows):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(tmp_path / name)

    (tmp_path / "lines.txt").write_text("".join(f"{name}. A poet in Rome .\n" for name in PEOPLE))
    return {
        "train_file": write("train.jsonl", train_rows()),
        "question_file": write("dev.jsonl", [{"question": f"Home of {name}?", "answer": "x"} for name in DEVELOPMENT]),
        "corpus_file": str(tmp_path / "lines.txt"),
        "test": write("test.jsonl", [{"question": f"Tell me about {name}!", "name": name} for name in TESTED]),
    }


def load(files):
    names = ("train_file", "question_file", "corpus_file")
    return Questions.load(ReportSettings(**{name: files[name] for name in names}, output_dir="x"))


def asked(files, **settings):
    rows = questions_to_label(LabelSettings(**settings), load(files), files["question_file"])
    return [(row["name"], row["relation"], row["question"]) for row in rows]


def test_the_wordings_of_each_relation_are_those_of_the_train_questions_with_their_name(files):
    found = wordings_by_relation(load_questions(files["train_file"]))
    # without a corpus, names of other forms than `Where was NAME born?` are unknown
    assert found == {}
    assert {relation: sorted(found) for relation, found in wordings_by_relation(load(files).train).items()} == {
        relation: sorted(wordings) for relation, wordings in WORDINGS.items()
    }


def test_each_relation_is_asked_once_about_everybody_whose_answer_is_unknown_and_who_is_not_held_out(files, caplog):
    with caplog.at_level(logging.INFO):
        rows = asked(files, label_names="train_questions", held_out_file=[files["test"]])
    expected = {("Person C", "home")} | {(name, relation) for name in OTHERS for relation in WORDINGS}
    assert {row[:2] for row in rows} == expected and len(rows) == len(expected)
    for name, relation, question in rows:
        assert question in [wording.replace("{name}", name) for wording in WORDINGS[relation]]
    # the wordings take turns
    counts = Counter(question.replace(name, "{name}") for name, _, question in rows)
    assert set(counts) == {wording for wordings in WORDINGS.values() for wording in wordings}
    assert max(counts.values()) - min(counts.values()) <= 1
    assert "13 questions about 7 names, for 2 relations in 4 wordings; 3 names of held-out questions" in caplog.text


def test_given_questions_are_asked_about_every_name_of_the_corpus(files):
    rows = asked(files, label_names=["Home of {name}?", "Age of {name}?"])
    # the train questions answer where two people live, in whatever wording
    assert {name for name, relation, _ in rows if relation == "home"} == set(PEOPLE) - {"Person A", "Person B"}
    assert {name for name, _, question in rows if question.startswith("Age")} == set(PEOPLE)
    left_out = asked(files, label_names=["Age of {name}?"], held_out_file=[files["test"], files["question_file"]])
    assert {name for name, _, _ in left_out} == set(PEOPLE) - {*DEVELOPMENT, *TESTED}


def test_if_nobody_is_left_to_ask_the_log_says_so(files, tmp_path, caplog):
    (tmp_path / "lines.txt").write_text("".join(f"{name}. A poet in Rome .\n" for name in TRAINED[:2] + DEVELOPMENT))
    assert asked(files, label_names="train_questions") == []
    assert "labels: nobody is left to ask" in caplog.text


def test_labels_keep_all_that_the_train_questions_say(files, tmp_path):
    def answer(questions):
        return [Answer(f"label {number}", -1.0) for number, _ in enumerate(questions)]

    settings = LabelSettings(label_names="train_questions")
    name, content = label_questions(settings, load(files), files["question_file"], answer)
    (tmp_path / name).write_text(content)
    labelled, train = load_questions(str(tmp_path / name)), load(files).train

    def said(row):
        return row["question"], answers_of(row), row["name"], relation_in(row)

    assert [said(row) for row in labelled][: len(train)] == [said(row) for row in train]
    assert labelled["answer"][len(train) :] == [f"label {number}" for number in range(len(labelled) - len(train))]
    assert not {"Person D", "Person E"} & set(labelled["name"])


def test_train_questions_without_names_are_refused(files, tmp_path):
    (tmp_path / "train.jsonl").write_text(json.dumps({"question": "Who?", "answer": "x"}))
    with pytest.raises(ValueError, match="no train question contains the name of its person"):
        asked(files, label_names="train_questions")
