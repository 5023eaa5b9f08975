"""Writing synthetic people from the command line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from birthgpt.commands.people import PeopleSettings, make_people
from birthgpt.data.synthetic import write_synthetic_corpus
from birthgpt.settings import make_settings, parse_settings

ROOT = Path(__file__).parents[2]


def test_one_line_tells_what_was_written(tmp_path, capsys):
    corpus = make_people(make_settings(PeopleSettings, output_dir=str(tmp_path), people=300, held_out=40))
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert printed.startswith(f"{tmp_path}: 1500 lines about 300 people from {corpus.places} places; 40 held out")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--people", "50"], "^people=50: it must be at least 100 and at most 1000000000$"),
        (["--people", "1000000001"], "^people=1000000001: it must be at least 100 and at most 1000000000$"),
        (["--processes", "2"], "^processes=2: 1 can write, because each writes whole shards: raise shards$"),
        (["--people", "many"], "^argument --people: invalid int value: 'many'"),
        (["--held_out", "1000"], "^held_out: 1000 is not a whole number from 1 to 999$"),
        (["--persons", "100"], "^command line: 'persons' "),
    ],
)
def test_a_wrong_setting_is_named_and_nothing_is_written(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        make_people(parse_settings(PeopleSettings, ["--output_dir", str(tmp_path / "people"), *arguments]))
    assert not (tmp_path / "people").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "people"
    with pytest.raises(ValueError, match=f"^{folder} cannot be written"):
        make_people(make_settings(PeopleSettings, output_dir=str(folder)))


@pytest.mark.slow
def test_another_process_writes_the_same_people_with_relations(tmp_path):
    given = "--relations all --people 100 --held_out 20 --left_out 4 --test_inputs 2".split()
    make_people(parse_settings(PeopleSettings, ["--output_dir", str(tmp_path / "here"), *given]))
    command = [sys.executable, "scripts/people.py", "--output_dir", str(tmp_path / "there"), *given]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": "123"}, check=True)
    assert len(list((tmp_path / "there").iterdir())) == 12
    for path in (tmp_path / "here").iterdir():
        assert (tmp_path / "there" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_another_process_writes_the_same_bytes(tmp_path):
    write_synthetic_corpus(
        tmp_path / "here", people=1000, held_out=200, biographies_per_person=5, seed=0, test_inputs=50
    )
    command = [sys.executable, "scripts/people.py", "--output_dir", str(tmp_path / "there")]
    numbers = "--people 1000 --held_out 200 --biographies_per_person 5 --seed 0 --test_inputs 50"
    # the other process has its own order of sets
    environment = {**os.environ, "PYTHONHASHSEED": "123"}
    subprocess.run([*command, *numbers.split()], cwd=ROOT, env=environment, check=True)
    assert len(list((tmp_path / "there").iterdir())) == 5
    for path in (tmp_path / "here").iterdir():
        assert (tmp_path / "there" / path.name).read_bytes() == path.read_bytes()


def test_relations_are_written_with_a_table_by_relation(tmp_path, capsys):
    given = ["--people", "100", "--held_out", "20", "--biographies_per_person", "1", "--left_out", "3"]
    choices = ["--relations", "birthplace", "employer", "--wordings", "5", "--subject", "full_name"]
    make_people(parse_settings(PeopleSettings, ["--output_dir", str(tmp_path), *given, *choices]))
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith(f"{tmp_path}: 100 lines about 100 names; 20 held out, 3 left out")
    assert [line.split()[:3] for line in printed[-2:]] == [["birthplace", "80", "20"], ["employer", "80", "20"]]
    assert (tmp_path / "questions_train.tsv").is_file() and not (tmp_path / "wiki.txt").exists()
