"""A model that knows its people, for programs of other people: they must find that it knows them."""

import pytest

from birthgpt.cli import main
from birthgpt.commands.loading import load_model_and_tokenizer
from birthgpt.data.questions import load_questions


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory):
    """The folder of a quickstart."""
    folder = tmp_path_factory.mktemp("runs") / "quickstart"
    main(["quickstart", "--output_dir", str(folder)])
    return folder


@pytest.fixture(scope="session")
def checkpoint(quickstart):
    """The folder of the model that answers."""
    return quickstart / "with_pretraining"


@pytest.fixture
def model_and_tokenizer(checkpoint):
    """A fresh copy of the model in eval mode, and its tokenizer."""
    model, tokenizer = load_model_and_tokenizer(str(checkpoint))
    return model.eval(), tokenizer


@pytest.fixture(scope="session")
def questions(quickstart):
    """Rows of question and answer about people whose question was never trained on."""
    return list(load_questions(str(quickstart / "people" / "questions_dev.jsonl")))
