"""One tiny world with one tiny run on it, which the tests of scripts share."""

import pytest
from tiny_runs import run_finetuning, run_pretraining

from birthgpt.data.people import write_world


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A folder with wiki.txt, birth_places_train.tsv and birth_dev.tsv."""
    folder = tmp_path_factory.mktemp("world")
    write_world(folder / "files", people=120, held_out=20, biographies_per_person=1, seed=0)
    return folder / "files"


@pytest.fixture(scope="session")
def pretrained(world, tmp_path_factory):
    """A checkpoint that has seen the world, a little."""
    folder = tmp_path_factory.mktemp("runs") / "pretrained"
    run_pretraining("--train_file", world / "wiki.txt", "--objective", "name_first", "--output_dir", folder)
    return folder


@pytest.fixture(scope="session")
def finetuned(world, pretrained, tmp_path_factory):
    """A checkpoint that has been asked questions."""
    folder = tmp_path_factory.mktemp("runs") / "finetuned"
    run_finetuning(
        "--train_file", world / "birth_places_train.tsv", "--model_name_or_path", pretrained, "--output_dir", folder
    )
    return folder
