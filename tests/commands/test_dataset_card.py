"""The dataset card makes `datasets.load_dataset` read a folder as it was written, and the Hub accept it."""

import pytest
from builders import read_lines
from datasets import get_dataset_config_names, load_dataset
from huggingface_hub import DatasetCard, snapshot_download, upload_folder

from birthgpt.cli import main
from birthgpt.data.synthetic import write_synthetic_corpus
from birthgpt.data.synthetic.dataset_card import configuration, dataset_card


@pytest.fixture(scope="module")
def related(tmp_path_factory):
    """A folder with every kind of file."""
    folder = tmp_path_factory.mktemp("related") / "people"
    given = "--relations birthplace occupation --people 100 --held_out 20 --left_out 3 --test_inputs 2"
    main(["people", *given.split(), "--biographies_per_person", "1", "--output_dir", str(folder)])
    return folder


def pairs_of(file) -> list[list[str]]:
    """The cells of a file with tabs."""
    return [line.split("\t") for line in read_lines(file)]


def pairs(rows) -> list[list[str]]:
    """The rows of a data set in the same form."""
    return [[row["question"], row["answer"]] for row in rows]


def test_every_file_of_related_people_is_loaded_as_it_was_written(related, tmp_path):
    load = {"cache_dir": str(tmp_path)}
    assert get_dataset_config_names(str(related)) == ["questions", "biographies", "test_inputs"]
    lines = load_dataset(str(related), "biographies", split="train", **load)
    assert list(lines["text"]) == read_lines(related / "biographies.txt")
    questions = load_dataset(str(related), **load)
    assert list(questions) == ["train", "dev", "new_wordings", "left_out"]
    for split, rows in questions.items():
        assert pairs(rows) == pairs_of(related / f"questions_{split}.tsv")
    (rows,) = load_dataset(str(related), "test_inputs", **load).values()
    assert list(rows["question"]) == read_lines(related / "questions_test_inputs.tsv")


def test_files_of_birthplaces_are_loaded_as_they_were_written(tmp_path):
    folder = tmp_path / "people"
    write_synthetic_corpus(folder, people=120, held_out=20, test_inputs=10)
    load = {"cache_dir": str(tmp_path / "cache")}
    lines = load_dataset(str(folder), "biographies", split="train", **load)
    assert list(lines["text"]) == read_lines(folder / "wiki.txt")
    questions = load_dataset(str(folder), "questions", **load)
    for split, file in (("train", "birth_places_train.tsv"), ("dev", "birth_dev.tsv")):
        assert pairs(questions[split]) == pairs_of(folder / file)
    (rows,) = load_dataset(str(folder), "test_inputs", **load).values()
    assert list(rows["question"]) == read_lines(folder / "birth_test_inputs.tsv")


def test_a_corpus_in_shards_is_loaded_in_their_order(tmp_path):
    folder = tmp_path / "people"
    write_synthetic_corpus(folder, people=120, held_out=20, test_inputs=10, shards=3)
    lines = load_dataset(str(folder), "biographies", split="train", cache_dir=str(tmp_path / "cache"))
    shards = sorted(folder.glob("wiki-*.txt"))
    assert len(shards) == 3
    assert list(lines["text"]) == [line for path in shards for line in read_lines(path)]


def test_cells_that_csv_readers_change_stay_as_they_are(tmp_path):
    cells = [["Who is “NA”?", "NA"], ['"Quoted', "null"], ["a,b", "001"]]
    (tmp_path / "rows.tsv").write_text("".join("\t".join(row) + "\n" for row in cells), encoding="utf-8")
    entry = configuration("questions", {"train": "rows.tsv"}, "question", "answer")
    (tmp_path / "README.md").write_text(dataset_card("Rows", "Three rows.", [entry], []), encoding="utf-8")
    rows = load_dataset(str(tmp_path), split="train", cache_dir=str(tmp_path / "cache"))
    assert pairs(rows) == cells


def test_a_table_of_somebody_has_a_card_without_a_language(tmp_path):
    (tmp_path / "table.csv").write_text("name,club\n" + "".join(f"Player {letter}x,Elks\n" for letter in "ABCDEF"))
    (tmp_path / "templates.yaml").write_text(
        'relations:\n  club:\n    texts: ["{subject} plays for {answer}."]\n    questions: ["Where is {name}?"]\n'
    )
    files = ["--table", str(tmp_path / "table.csv"), "--templates", str(tmp_path / "templates.yaml")]
    main(["synthesize", *files, "--held_out", "2", "--wordings", "1", "--output_dir", str(tmp_path / "out")])
    card = DatasetCard.load(tmp_path / "out" / "README.md")
    assert card.data.language is None and card.data.pretty_name == "Lines and questions from templates"
    questions = load_dataset(str(tmp_path / "out"), "questions", cache_dir=str(tmp_path / "cache"))
    assert [row["answer"] for rows in questions.values() for row in rows] == ["Elks"] * 6


def test_a_folder_is_pushed_and_loaded_again(related, hub, tmp_path):
    hub.create("you/people")
    upload_folder(repo_id="you/people", folder_path=related, repo_type="dataset")
    card = DatasetCard.load("you/people")
    assert card.data.to_dict()["configs"][0]["data_files"][1] == {"split": "dev", "path": "questions_dev.tsv"}
    folder = snapshot_download("you/people", repo_type="dataset", local_dir=tmp_path / "people")
    rows = load_dataset(folder, "questions", split="dev", cache_dir=str(tmp_path / "cache"))
    assert pairs(rows) == pairs_of(related / "questions_dev.tsv")
