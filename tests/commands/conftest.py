"""A few invented people with one tiny run on them, which the tests of scripts share."""

import pytest
from builders import run_finetuning, run_pretraining

from birthgpt.data.synthetic import write_synthetic_corpus


@pytest.fixture(scope="session")
def people_files(tmp_path_factory):
    """A folder of invented people: wiki.txt, birth_places_train.tsv and birth_dev.tsv."""
    folder = tmp_path_factory.mktemp("people")
    write_synthetic_corpus(folder / "files", people=120, held_out=20, biographies_per_person=1, seed=0)
    return folder / "files"


@pytest.fixture(scope="session")
def pretrained(people_files, tmp_path_factory):
    """A checkpoint after a few updates on the biographies."""
    folder = tmp_path_factory.mktemp("runs") / "pretrained"
    run_pretraining("--train_file", people_files / "wiki.txt", "--objective", "name_first", "--output_dir", folder)
    return folder


@pytest.fixture(scope="session")
def finetuned(people_files, pretrained, tmp_path_factory):
    """A checkpoint that has been asked questions."""
    folder = tmp_path_factory.mktemp("runs") / "finetuned"
    run_finetuning(
        "--train_file", people_files / "birth_places_train.tsv", "--model_name_or_path", pretrained,
        "--output_dir", folder,
    )  # fmt: skip
    return folder
