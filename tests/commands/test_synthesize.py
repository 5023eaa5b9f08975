"""A table and templates of a user become lines and questions."""

import json
import os

import pytest
from builders import name_of, read_lines

from birthgpt.commands.synthesize import SynthesizeSettings, synthesize
from birthgpt.data.synthetic import read_templates
from birthgpt.settings import make_settings

CLUBS = ["Elk", "Lynx F.C.", "Owls of Tarn, Ohio"]
ROWS = [(f"Player {chr(65 + number)}alo", CLUBS[number % 3], "she", str(1900 + number)) for number in range(20)]
TEMPLATES = """name: player
pronoun: pronoun
relations:
  team:
    answer: club
    texts: ["{subject} plays for {answer}.", "{possessive} team is {answer}."]
    questions: ["Which team does {name} play for?"]
    new_questions: ["Who is the team of {name}?"]
  year:
    texts: ["{subject} began in {answer}."]
    questions: ["When did {name} begin?"]
"""


@pytest.fixture
def write(tmp_path):
    """Write a table and templates, and synthesize from them."""

    def write(rows=ROWS, templates=TEMPLATES, header="player,club,pronoun,year", **settings):
        table = "\n".join([header, *(",".join(f'"{cell}"' for cell in row) for row in rows)])
        (tmp_path / "T.csv").write_text(table + "\n", encoding="utf-8")
        (tmp_path / "F.yaml").write_text(templates, encoding="utf-8")
        paths = {"table": tmp_path / "T.csv", "templates": tmp_path / "F.yaml", "output_dir": tmp_path / "D"}
        given = {name: str(path) for name, path in paths.items()} | settings
        return synthesize(make_settings(SynthesizeSettings, **given))

    return write


def rows_of(tmp_path, name):
    return [json.loads(line) for line in read_lines(tmp_path / "D" / f"questions_{name}.jsonl")]


def test_every_row_becomes_lines_and_a_question_for_each_relation(write, tmp_path, capsys):
    corpus = write(biographies_per_person=2)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith(f"{tmp_path / 'D'}: 40 lines about 20 names; 4 held out, 0 left out")
    assert [line.split()[:4] for line in printed[-2:]] == [["team", "16", "4", "3"], ["year", "16", "4", "20"]]
    facts = {name: (club, year) for name, club, _, year in ROWS}
    lines = read_lines(tmp_path / "D" / "biographies.txt")
    assert len(set(lines)) == corpus.lines == 40
    for line in lines:
        name = name_of(line)
        assert all(answer in line for answer in facts[name])
        assert line.count(name) == 2 and (" She " in line or " Her " in line)
    asked = [*rows_of(tmp_path, "train"), *rows_of(tmp_path, "dev")]
    assert {(row["name"], row["relation"]): row["answer"] for row in asked} == {
        (name, relation): answer
        for name, (club, year) in facts.items()
        for relation, answer in (("team", club), ("year", year))
    }
    # `year` has no wording that is never trained on
    assert [row["relation"] for row in rows_of(tmp_path, "new_wordings")] == ["team"] * 4
    pairs = [(row["question"], row["answer"]) for row in rows_of(tmp_path, "dev")]
    assert [tuple(line.split("\t")) for line in read_lines(tmp_path / "D" / "questions_dev.tsv")] == pairs


def test_the_same_table_gives_the_same_files_and_names_are_divided_at_random(write, tmp_path):
    write()
    first = {path.name: path.read_bytes() for path in (tmp_path / "D").iterdir()}
    dev = {row["name"] for row in rows_of(tmp_path, "dev")}
    assert dev != {name for name, *_ in ROWS[:4]}
    (tmp_path / "D").rename(tmp_path / "earlier")
    write()
    assert {path.name: path.read_bytes() for path in (tmp_path / "D").iterdir()} == first


def test_relations_held_out_names_and_names_without_lines_are_chosen(write, tmp_path):
    corpus = write(relations=["year"], held_out=5, left_out=3, biographies_per_person=1)
    assert (corpus.subjects, corpus.held_out, corpus.left_out, corpus.lines) == (17, 5, 3, 17)
    named = {name_of(line) for line in read_lines(tmp_path / "D" / "biographies.txt")}
    left_out = {row["name"] for row in rows_of(tmp_path, "left_out")}
    assert len(left_out) == 3 and not named & left_out
    assert {row["relation"] for row in rows_of(tmp_path, "train")} == {"year"}


def test_an_empty_cell_is_a_fact_that_nobody_knows(write, tmp_path, caplog):
    caplog.set_level("INFO")
    write([(name, club if name != ROWS[7][0] else "", "", year) for name, club, _, year in ROWS])
    assert f"no team for 1 names, first {ROWS[7][0]}" in caplog.text
    lines = [line for line in read_lines(tmp_path / "D" / "biographies.txt") if name_of(line) == ROWS[7][0]]
    assert lines == [f"{ROWS[7][0]}. {ROWS[7][0]} began in 1907."]


@pytest.mark.parametrize("ending", ["tsv", "jsonl", "json"])
def test_other_kinds_of_tables_give_the_same_files(ending, write, tmp_path):
    write()
    (tmp_path / "D").rename(tmp_path / "csv")
    header = ["player", "club", "pronoun", "year"]
    # numbers of a JSON table become text
    objects = [dict(zip(header, [*row[:3], int(row[3])], strict=True)) for row in ROWS]
    content = {
        "tsv": "\n".join("\t".join(row) for row in [header, *ROWS]),
        "jsonl": "\n".join(map(json.dumps, objects)),
        "json": json.dumps(objects),
    }
    (tmp_path / f"T.{ending}").write_text(content[ending], encoding="utf-8")
    write(table=str(tmp_path / f"T.{ending}"))
    for path in (tmp_path / "csv").iterdir():
        assert (tmp_path / "D" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"templates": TEMPLATES.replace("{subject} began", "{subject} of {town} began")},
         r"F.yaml, line 10: \{town\} in .* is not a column of .*T.csv; there are: player, club, pronoun, year"),
        ({"templates": TEMPLATES.replace("the team", "the {yeer} team").replace(" began", " of {town}, {land} began")},
         r"^3 fields in 2 templates are not columns of .*T.csv, first \{yeer\} in .* \(.*F.yaml, line 8\); did you"),
        ({"relations": ["teams"]}, "relations: there is no relation 'teams' in .*F.yaml; did you mean 'team'"),
        ({"rows": [*ROWS, ROWS[3]]}, "T.csv, line 22: the name 'Player Dalo' is also in .*T.csv, line 5"),
        ({"rows": [*ROWS, ("", "Elk", "she", "1")]}, r"T.csv, line 22: the name \(column 'player'\) is empty"),
        ({"rows": [*ROWS, ("Acme Inc. Berlin", "Elk", "she", "1")]},
         "T.csv, line 22: the name 'Acme Inc. Berlin' would be read as 'Acme Inc'"),
        ({"rows": [*ROWS, ("Bo", "Elk", "xe", "1")]}, "T.csv, line 22: the pronoun 'xe' is not one of she, he, it"),
        ({"rows": [*ROWS, ("Bo", "E\tlk", "she", "1")]}, "T.csv, line 22, column 'club': .* a tab or line break"),
        ({"rows": [*ROWS, ("Bo", "E⁇lk", "she", "1")]}, "T.csv, line 22, column 'club', character 2: .*special token"),
        ({"rows": [(*row[:3], "") for row in ROWS]}, "T.csv: the column 'year', the answers of year, is empty"),
        ({"rows": []}, "T.csv: no row in it"),
        ({"held_out": 20}, "held_out: 20 is not a whole number from 0 to 19"),
        ({"held_out": 10, "left_out": 10}, "left_out: 10 is not a whole number from 0 to 9"),
        ({"wordings": 2}, "wordings=2: the relation year has 1"),
        ({"table": "nowhere.csv"}, "nowhere.csv: no such file"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place_and_nothing_is_written(given, message, write, tmp_path):
    with pytest.raises(ValueError, match=message):
        write(**given)
    assert not (tmp_path / "D").exists()


def test_a_folder_that_cannot_be_made_is_named(write, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file/D cannot be written"):
        write(output_dir=str(tmp_path / "file" / "D"))


def test_templates_that_are_a_pipe_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe is a device or a pipe"):
        read_templates(str(tmp_path / "pipe"))
