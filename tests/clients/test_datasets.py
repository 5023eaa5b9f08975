"""`datasets.load_dataset` reads the files of the package as they are, without a script and without the Hub."""

import json

import pytest
from builders import read_lines

pytestmark = pytest.mark.parametrize("workspace", ["softmax"], indirect=True)


def test_the_folder_of_birthgpt_people_is_a_data_set(run, people):
    found = run("datasets_corpus")
    assert list(found["lines"]["text"]) == read_lines(people / "biographies.txt")
    assert list(found["questions"]) == ["train", "dev", "new_wordings"]
    for split, rows in found["questions"].items():
        pairs = [f"{row['question']}\t{row['answer']}" for row in rows]
        assert pairs == read_lines(people / f"questions_{split}.tsv")


def test_each_file_is_read_as_it_is(run, people):
    found = run("datasets_files")
    assert list(found["lines"]["text"]) == read_lines(people / "biographies.txt")
    assert found["rows"].to_list() == [json.loads(line) for line in read_lines(people / "questions_dev.jsonl")]
    pairs = [f"{row['question']}\t{row['answer']}" for row in found["table"]]
    assert pairs == read_lines(people / "questions_dev.tsv")
