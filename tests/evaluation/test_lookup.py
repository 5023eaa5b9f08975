"""What is found is in the file, under any spelling of the name, and an answer is given only if it is certain."""

import json
import re
import sys
import unicodedata

import datasets
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from birthgpt.data.names import fold
from birthgpt.evaluation.answering import Answer
from birthgpt.evaluation.confidence import ConfidentAnswer
from birthgpt.evaluation.lookup import LookupIndex, look_up
from birthgpt.evaluation.lookup_sources import Entry, LookupColumns, read_entries
from birthgpt.evaluation.wordings import Wordings

PEOPLE = {
    "Émilie du Châtelet": "Paris",
    "Ada Lovelace": "London",
    "Søren Kierkegaard": "Copenhagen",
    "Władysław Reymont": "Kobiele Wielkie",
    "J. J. Thomson": "Manchester",
    "Conan O'Brien": "Brookline, MA",
    "Đặng Thái Sơn": "Hanoi",
}
BORN = Wordings([["Where was {name} born?", "What is the birthplace of {name}?"]])


def question(name: str) -> str:
    return f"Where was {name} born?"


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """A table of names, relations and answers."""
    rows = [f'"{name}",birthplace,"{place}"' for name, place in PEOPLE.items()]
    return write(tmp_path_factory.mktemp("table") / "people.csv", "name,relation,answer", *rows)


@pytest.fixture(scope="module")
def index(people):
    return LookupIndex.load(people)


def write(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


def without_accents(text: str) -> str:
    """By the definition of Unicode: the base characters alone, and small letters."""
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)).lower()


@pytest.mark.parametrize("name", PEOPLE)
@pytest.mark.parametrize(
    "spelled",
    [str, str.upper, str.lower, without_accents, lambda name: unicodedata.normalize("NFD", name)],
    ids=["same", "capitals", "small", "without accents", "decomposed"],
)
def test_a_name_is_found_in_any_spelling(index, name, spelled):
    found = index.find(question(spelled(name)))
    assert found.answer == PEOPLE[name]
    assert [finding.entry.name for finding in found.findings] == [name]


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=40))
@settings(deadline=None)
def test_folding_twice_is_folding_once_and_accents_capitals_and_marks_do_not_count(text):
    folded = fold(text)
    assert fold(folded) == folded
    assert fold(unicodedata.normalize("NFD", text)) == folded
    assert all(character == " " or unicodedata.category(character)[0] in "LMN" for character in folded)


def test_folding_keeps_the_vowels_of_other_scripts():
    assert fold("किशोर") == "किशोर" != fold("कशर")


@given(data=st.data())
@settings(deadline=None, max_examples=60, suppress_health_check=[])
def test_a_name_with_one_wrong_letter_is_a_similar_name_and_never_an_answer(index, data):
    name = data.draw(st.sampled_from(["Ada Lovelace", "Søren Kierkegaard", "Władysław Reymont", "Đặng Thái Sơn"]))
    place = data.draw(st.integers(0, len(name) - 1).filter(lambda place: name[place] != " "))
    letter = data.draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz"))
    wrong = name[:place] + letter + name[place + 1 :]
    assume(fold(wrong) != fold(name))
    found = index.find(question(wrong))
    assert [(finding.entry.name, finding.match) for finding in found.findings] == [(name, "similar")]
    assert found.findings[0].answers == (PEOPLE[name],) and found.answer is None


def test_what_is_found_is_in_the_file_at_the_marked_place(index, people):
    content = open(people, encoding="utf-8").read().splitlines()
    for name, place in PEOPLE.items():
        (finding,) = index.find(question(name)).findings
        number = int(re.fullmatch(f"{re.escape(people)}, line ([0-9]+)", finding.entry.where)[1])
        assert name in content[number - 1] and place in content[number - 1]
        assert [finding.entry.text[start:end] for start, end in finding.spans] == [place]


def test_a_name_that_nobody_has_is_not_found(index):
    found = index.find(question("Quintus Nobody"))
    assert found.findings == () and found.answer is None


@pytest.mark.parametrize(
    "asked",
    [
        "What is the birthplace of Ada Lovelace?",
        "In which place was Ada Lovelace born?",
        "Ada Lovelace was born in which place?",
    ],
)
def test_other_wordings_of_the_same_relation_have_the_same_answer(index, asked):
    assert index.find(asked).answer == "London"


@pytest.mark.parametrize(
    "asked", ["Who employs Ada Lovelace?", "Where did Ada Lovelace die?", "When was Ada Lovelace born?"]
)
def test_another_question_about_the_name_shows_the_row_without_an_answer(index, asked):
    found = index.find(asked)
    assert [finding.entry.name for finding in found.findings] == ["Ada Lovelace"]
    assert found.answer is None and not found.findings[0].spans


def test_two_people_of_one_name_are_both_shown_and_neither_is_the_answer(tmp_path):
    table = write(tmp_path / "people.csv", "name,relation,answer,year", "John Smith,birthplace,York,1801",
                  "John Smith,birthplace,Leeds,1901", "JOHN SMITH,birthplace,Bath,1950")  # fmt: skip
    found = LookupIndex.load(table).find(question("John Smith"))
    assert [finding.answers for finding in found.findings] == [("York",), ("Leeds",)] and found.answer is None
    # the same place for both is an answer
    table = write(tmp_path / "same.csv", "name,relation,answer,year", "John Smith,birthplace,York,1801",
                  "John Smith,birthplace,York,1901")  # fmt: skip
    assert LookupIndex.load(table).find(question("John Smith")).answer == "York"


def test_a_known_name_is_not_taken_for_a_part_of_it(index):
    assert index.find(question("Ada Lovelace King")).answer is None


def test_a_table_without_relations_is_about_the_only_fact_of_the_calibration(tmp_path):
    index = LookupIndex.load(write(tmp_path / "places.csv", "name,answer", "Ada Lovelace,London"))
    assert index.find(question("Ada Lovelace"), BORN).answer == "London"
    two_facts = Wordings([*BORN.groups, ["Who employs {name}?"]])
    for found in (
        index.find(question("Ada Lovelace")),
        index.find(question("Ada Lovelace"), two_facts),
        index.find("Who is Ada Lovelace?", BORN),
    ):
        assert found.findings[0].answers == ("London",) and found.answer is None


def test_questions_with_answers_are_a_table(tmp_path):
    table = write(tmp_path / "q.tsv", "Where was Ada Lovelace born?\tLondon", "Who wrote the first program?\tAda")
    index = LookupIndex.load(table)
    assert index.find("where was ADA LOVELACE born").answer == "London"
    assert index.find("Who wrote the first program?").answer == "Ada"
    assert index.find("What is the birthplace of Ada Lovelace?").answer == "London"
    nearest = index.find("Did anybody write a program?")
    assert [finding.match for finding in nearest.findings] == ["words"] and nearest.answer is None


def test_the_wordings_of_a_table_tell_its_relations(tmp_path):
    rows = [
        {"question": "Home of {}?", "name": "Ada Lovelace", "relation": "home", "answer": "London"},
        {"question": "Where does {} live?", "name": "Lise Meitner", "relation": "home", "answer": "Vienna"},
    ]
    for row in rows:
        row["question"] = row["question"].format(row["name"])
    index = LookupIndex.load(write(tmp_path / "q.jsonl", *map(json.dumps, rows)))
    assert index.find("Where does Ada Lovelace live?").answer == "London"


def test_several_right_answers_of_a_row_are_no_contradiction(tmp_path):
    row = {"name": "Ada Lovelace", "relation": "birthplace", "answers": ["London", "England"]}
    found = LookupIndex.load(write(tmp_path / "q.jsonl", json.dumps(row))).find(question("Ada Lovelace"))
    assert found.answer == "London" and found.findings[0].answers == ("London", "England")


def test_columns_may_have_other_names(tmp_path):
    table = write(tmp_path / "p.csv", "person,town", "Ada Lovelace,London")
    index = LookupIndex.load(table, LookupColumns(name="person", answer="town"))
    assert index.find(question("Ada Lovelace"), BORN).answer == "London"


def test_a_saved_dataset_is_a_table(tmp_path):
    rows = {"name": list(PEOPLE), "relation": ["birthplace"] * len(PEOPLE), "answer": list(PEOPLE.values())}
    datasets.Dataset.from_dict(rows).save_to_disk(tmp_path / "people")
    assert LookupIndex.load(str(tmp_path / "people")).find(question("Soren Kierkegaard")).answer == "Copenhagen"


LINES = [
    "Ada Lovelace. Ada Lovelace (born 10 December 1815, London) was an English mathematician .",
    "Émilie du Châtelet. Born in Paris, Émilie du Châtelet translated Newton's Principia .",
    "Jacob Studer. Jacob Studer (26 February 1840 Columbus, Ohio - 2 August 1904) was a printer .",
    "Lise Meitner. Lise Meitner was a physicist who worked in Berlin .",
    "Ann Two. Ann Two (born 1815, Rome) was born in Naples .",
    "The poet Kornel Ujejski was born in Beremiany and wrote a chorale",
    "Jan Smith. Jan Smith met Otto Frei , who was born in Basel .",
]  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return LookupIndex.load(write(tmp_path_factory.mktemp("corpus") / "lines.txt", *LINES))


@pytest.mark.parametrize(
    ("asked", "answer", "line"),
    [
        ("Where was Ada Lovelace born?", "London", 1),
        ("Where was Emilie du Chatelet born?", "Paris", 2),
        ("Where was Jacob Studer born?", "Columbus, Ohio", 3),
        ("When was Jacob Studer born?", "26 February 1840", 3),
        # the line has no name at its start
        ("Where was Kornel Ujejski born?", "Beremiany", 6),
        # nothing is told, two places are told, and it is told of another person
        ("Where was Lise Meitner born?", None, 4),
        ("Where was Ann Two born?", None, 5),
        ("Where was Otto Frei born?", None, 7),
    ],
)
def test_the_line_about_a_name_is_found_with_its_place(corpus, asked, answer, line):
    found = corpus.find(asked)
    assert found.answer == answer
    assert [finding.entry.where.rsplit(" ", 1)[1] for finding in found.findings] == [str(line)]
    (finding,) = found.findings
    assert finding.entry.text == LINES[line - 1]
    assert all(LINES[line - 1][start:end] in finding.answers for start, end in finding.spans)


def test_lines_are_ranked_by_their_words_if_the_question_has_no_name(corpus):
    found = corpus.find("Which physicist worked in Berlin?")
    assert found.findings[0].entry.name == "Lise Meitner" and found.answer is None


def test_only_what_is_not_recalled_is_looked_up(index):
    answers = [
        ConfidentAnswer(Answer("London", 0.0), right, 0.0, verdict, True)
        for right, verdict in ((0.9, "recalled"), (0.2, "unsure"), (0.1, "unknown"))
    ]
    found = look_up(index, [question("Ada Lovelace")] * 3, answers)
    assert [lookup and lookup.answer for lookup in found] == [None, "London", "London"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "", "no row in it: there is nothing to look up"),
        ("t.csv", "name,answer\n", "no row in it: there is nothing to look up"),
        ("t.txt", "\n\n", "no text in any row"),
        ("t.csv", "name,place\nAda,London\n", "expected the columns 'answer' and 'name' or 'question' of a table"),
        ("t.csv", "name,answer,answer\nAda,London,Rome\n", "line 1: two columns of the same name"),
        ("t.tsv", "name\tanswer\tanswer\nAda\tLondon\tRome\n", "line 1: two columns of the same name"),
        ("t.tsv", "Ada\tbirthplace\tLondon\n", "line 1: 3 columns; expected question TAB answer, or a header"),
        ("t.tsv", "Where?\n", "line 1: 1 column; expected question TAB answer"),
        ("t.csv", "name,answer\n,London\n", "line 2: neither 'name' nor 'question' says whom the row is about"),
        ("t.csv", "name,answer\nAda,\n", "no answer in any row"),
        ("t.csv", "name,answer\nAda,Lon⁇don\n", "line 2, column 'answer', character 4: '⁇'"),
        ("t.jsonl", '{"name": "Ada", "answer": ["London"]}\n', "line 1, column 'answer': expected text, found list"),
        ("t.jsonl", '{"name": "Ada", "answers": "London"}\n', "'answers' must be a list"),
        ("t.doc", "Ada", "cannot read this kind of file"),
    ],
)  # fmt: skip
def test_a_wrong_source_is_one_line_with_its_place(tmp_path, name, content, message):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        LookupIndex.load(str(tmp_path / name))
    assert str(error.value).startswith(str(tmp_path / name)) and "\n" not in str(error.value)


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere.csv: no such file"):
        read_entries(str(tmp_path / "nowhere.csv"))
    (tmp_path / "latin.csv").write_bytes("name,answer\nÉmilie,Paris\n".encode("latin-1"))
    with pytest.raises(ValueError, match="latin.csv, line 2: not UTF-8"):
        read_entries(str(tmp_path / "latin.csv"))


def test_repeated_rows_count_once_and_are_reported(tmp_path, caplog):
    table = write(tmp_path / "t.csv", "name,relation,answer", *["Ada Lovelace,birthplace,London"] * 3)
    found = LookupIndex.load(table).find(question("Ada Lovelace"))
    assert len(found.findings) == 1 and found.answer == "London"
    assert f"{table}: 2 rows repeat an earlier row, first {table}, line 3; each counts once" in caplog.text


def test_without_the_libraries_the_message_says_what_to_install(monkeypatch):
    for library in ("rapidfuzz", "bm25s"):
        with monkeypatch.context() as missing:
            missing.setitem(sys.modules, library, None)
            with pytest.raises(ValueError, match=r"looking up needs .*pip install 'birthgpt\[lookup\]'"):
                LookupIndex("x", [Entry("x", "table", "")])
