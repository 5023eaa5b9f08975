"""Fixtures that several test modules share. No test needs the network or the real data."""

import os
import signal
import tempfile

# before any import of huggingface_hub: no test may use the Hub or the cache of a user
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="birthgpt-tests-")
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import datasets
import pytest
import torch
from builders import LINES, QUESTION, run_finetuning, run_pretraining

from birthgpt.data.synthetic import write_synthetic_corpus
from birthgpt.data.tokenizers import train_bpe_tokenizer, train_character_tokenizer

datasets.disable_progress_bars()


def pytest_configure(config):
    """Each worker uses one core: two trainings on the same cores wait for the threads of each other."""
    # a job in the background of a shell ignores Ctrl-C, and so would every program that a test starts
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is not None and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.environ["BIRTHGPT_TEST_CORES"] = ",".join(map(str, cores))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


@pytest.fixture(autouse=True)
def one_thread_and_seed():
    """Tests use one thread, because they share the machine, and draw the same numbers every time."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def nothing_compiled():
    """Torch stops compiling a function after many models of different shapes, so each test resets the compiler."""
    torch.compiler.reset()


@pytest.fixture(scope="session")
def characters():
    return train_character_tokenizer([*LINES, QUESTION], 128)


@pytest.fixture(scope="session")
def bpe():
    return train_bpe_tokenizer([*LINES, QUESTION], 320, 128)


@pytest.fixture(scope="session")
def people_files(tmp_path_factory):
    """A folder of synthetic people: wiki.txt, birth_places_train.tsv and birth_dev.tsv."""
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
    """A checkpoint after a few updates on questions."""
    folder = tmp_path_factory.mktemp("runs") / "finetuned"
    run_finetuning(
        "--train_file", people_files / "birth_places_train.tsv", "--model_name_or_path", pretrained,
        "--output_dir", folder,
    )  # fmt: skip
    return folder
