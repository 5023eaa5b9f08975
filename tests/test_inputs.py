"""No input makes a command wait or read for ever: what is not a regular file is refused before it is read."""

import glob
import os
import shutil
import signal
from pathlib import Path

import pytest
from datasets import Dataset

from birthgpt.commands.compare import CompareSettings, compare
from birthgpt.commands.convert import ConvertSettings, convert
from birthgpt.commands.loading import load_model, load_tokenizer
from birthgpt.data.corpus import load_corpus
from birthgpt.data.questions import load_questions
from birthgpt.data.sources import read_rows
from birthgpt.settings import read_config
from birthgpt.utils.files import matching_paths

ENDLESS = Path("/dev/zero")


@pytest.fixture(autouse=True)
def at_most_ten_seconds():
    """A wait without end fails the test."""

    def stop(*_):
        raise TimeoutError("the command did not end")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def put_device(path: Path) -> None:
    path.symlink_to(ENDLESS)


READERS = {
    "corpus.txt": load_corpus,
    "corpus.csv": load_corpus,
    "corpus.json": load_corpus,
    "corpus.parquet": load_corpus,
    "questions.tsv": load_questions,
    "run.yaml": read_config,
    "metrics.json": lambda path: compare(CompareSettings(metrics_files=[path])),
}


@pytest.mark.parametrize("put", [os.mkfifo, put_device])
@pytest.mark.parametrize("name", READERS)
def test_a_pipe_and_a_device_are_not_read(tmp_path, name, put):
    put(tmp_path / name)
    with pytest.raises(ValueError, match=f"{name} is a device or a pipe, and cannot be read: give a regular file"):
        READERS[name](str(tmp_path / name))


@pytest.mark.parametrize("put", [os.mkfifo, put_device])
def test_a_pipe_among_the_files_of_a_pattern_and_of_defaults_is_not_read(tmp_path, put):
    (tmp_path / "a.txt").write_text("Ada. Ada was born in London .\n")
    put(tmp_path / "b.txt")
    with pytest.raises(ValueError, match="b.txt is a device or a pipe"):
        load_corpus(str(tmp_path / "*.txt"))
    (tmp_path / "run.yaml").write_text("defaults: b.txt\n")
    with pytest.raises(ValueError, match="b.txt is a device or a pipe"):
        read_config(str(tmp_path / "run.yaml"))


@pytest.mark.parametrize("put", [os.mkfifo, put_device])
@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "run.json"]
)
def test_a_checkpoint_with_a_pipe_is_not_read(finetuned, tmp_path, name, put):
    folder = shutil.copytree(finetuned, tmp_path / "checkpoint")
    (folder / name).unlink()
    (folder / "manifest.json").unlink()
    put(folder / name)
    loads = [load_model, load_tokenizer, lambda place: convert(ConvertSettings(model_name_or_path=place))]
    for load in loads if name != "config.json" else loads[:2]:
        with pytest.raises(ValueError, match=f"{name} is a device or a pipe"):
            load(str(folder))


def test_a_saved_dataset_with_a_pipe_is_not_read(tmp_path):
    Dataset.from_list([{"text": "Ada. Born in London ."}]).save_to_disk(tmp_path / "saved")
    (arrow,) = (tmp_path / "saved").glob("*.arrow")
    arrow.unlink()
    os.mkfifo(arrow)
    with pytest.raises(ValueError, match="arrow is a device or a pipe"):
        list(read_rows(str(tmp_path / "saved")))


def test_links_that_lead_back_are_not_followed_for_ever(tmp_path):
    place = tmp_path / "corpus"
    (place / "inner").mkdir(parents=True)
    (place / "inner" / "a.txt").write_text("Ada. Ada was born in London .\n")
    for name in "abcdef":
        (place / name).symlink_to(place)
        (place / "inner" / name).symlink_to(place)
    assert len(load_corpus(str(place / "**" / "*.txt"))) == 1
    (place / "loop.txt").symlink_to(place / "loop.txt")
    with pytest.raises(ValueError, match="loop.txt: a link that leads nowhere"):
        load_corpus(str(place / "**" / "*.txt"))
    with pytest.raises(ValueError, match="loop.txt: no such file"):
        load_corpus(str(place / "loop.txt"))


@pytest.mark.parametrize("pattern", ["*.txt", "**/*.txt", "a/?.txt", "[ab]/*", "a/../b/*.txt", "**/b/*", "b/[*"])
def test_a_pattern_matches_what_it_matches_in_a_shell(tmp_path, monkeypatch, pattern):
    monkeypatch.chdir(tmp_path)
    for name in ("1.txt", "a/2.txt", "b/3.txt", "a/b/4.txt", ".hidden/5.txt", "a/.6.txt", "b/[7"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    # the standard library follows links; there are none here
    for prefix in ("", f"{tmp_path}/"):
        expected = sorted(map(Path, set(glob.glob(prefix + pattern, recursive=True))))
        assert [path.resolve() for path in matching_paths(prefix + pattern)] == [path.resolve() for path in expected]


def test_the_size_of_a_large_file_is_said(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("birthgpt.data.sources.LARGE", 1_000)
    caplog.set_level("INFO")
    for name, size in {"small.txt": 900, "large.txt": 3_000}.items():
        (tmp_path / name).write_text("x" * size)
        list(read_rows(str(tmp_path / name)))
    assert [record.getMessage() for record in caplog.records] == [f"{tmp_path / 'large.txt'}: reading 0.0 GB"]
