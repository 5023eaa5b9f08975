"""A command writes only over files of its own, and finds before the work that it cannot write."""

import json
import os
import shutil
from pathlib import Path

import pytest
from builders import run_pretraining

from birthgpt.commands.compare import CompareSettings, compare
from birthgpt.commands.ensemble import EnsembleSettings, ensemble
from birthgpt.commands.evaluate import EvaluateSettings, evaluate
from birthgpt.commands.people import PeopleSettings, make_people
from birthgpt.commands.probe import ProbeSettings, probe
from birthgpt.commands.push import PushSettings, export
from birthgpt.commands.quickstart import QuickstartSettings, new_people
from birthgpt.commands.split import SplitSettings, make_folds
from birthgpt.settings import make_settings
from birthgpt.utils.files import save_json, write_text

METRICS = {"name": "a", "accuracy": 0.5, "correct": 1, "total": 2}


def of_files(folder: Path, **settings):
    """The files in `folder` that the commands read, and no model: an output is checked before it is loaded."""
    files = {"question_file": "birth_dev.tsv", "train_file": "birth_places_train.tsv", "corpus_file": "wiki.txt"}
    return {name: str(folder / file) for name, file in files.items()} | settings


def run_evaluate(folder, output, **settings):
    evaluate(make_settings(EvaluateSettings, **of_files(folder), output_dir=output, baseline="London", **settings))


def run_ensemble(folder, output):
    settings = {"model_names_or_paths": ["missing"], "label_names": "Where was {name} born?"}
    ensemble(make_settings(EnsembleSettings, **of_files(folder), output_dir=output, **settings))


def run_probe(folder, output):
    files = of_files(folder)
    files.pop("train_file")
    probe(make_settings(ProbeSettings, **files, model_name_or_path="missing", output_dir=output))


def run_compare(folder, output):
    save_json(folder / "metrics.json", METRICS)
    compare(CompareSettings(metrics_files=[str(folder / "metrics.json")], output_file=str(Path(output, "rows.json"))))


def run_split(folder, output):
    make_folds(SplitSettings(question_file=str(folder / "birth_dev.tsv"), output_dir=output))


def run_people(folder, output):
    make_people(make_settings(PeopleSettings, output_dir=output, people=120, held_out=20))


def run_quickstart(folder, output):
    settings = make_settings(QuickstartSettings, output_dir=output, people=120, held_out=20)
    with new_people(settings, Path(output)):
        pass


def run_pretrain(folder, output):
    run_pretraining("--train_file", folder / "wiki.txt", "--objective", "name_first", "--output_dir", output)


def run_push(folder, output):
    export(PushSettings(model_name_or_path="missing", output_dir=output))


def with_results_file(folder, output):
    run_evaluate(folder, str(folder / "answers"), results_file=str(Path(output, "results.json")))


OUTPUTS = {
    "predictions.txt": run_evaluate,
    "metrics.json": run_evaluate,
    "results.json": with_results_file,
    "labelled.tsv": run_ensemble,
    "probe.json": run_probe,
    "rows.json": run_compare,
    "fold_2/held_out.tsv": run_split,
    "wiki.txt": run_people,
}
"""A file that each command writes into its output folder."""

every_output = pytest.mark.parametrize("name", OUTPUTS)


@pytest.fixture
def files(people_files, tmp_path):
    folder = tmp_path / "files"
    shutil.copytree(people_files, folder)
    return folder


def put_link(path: Path) -> None:
    (path.parent / "mine.txt").write_text("mine")
    path.symlink_to(path.parent / "mine.txt")


def put_lost_link(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere" / "mine.txt")


OBSTACLES = {
    "link": put_link,
    "link to nowhere": put_lost_link,
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
}


@every_output
@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_nothing_but_a_regular_file_is_written_over(files, tmp_path, name, obstacle):
    place = tmp_path / "out" / name
    place.parent.mkdir(parents=True)
    OBSTACLES[obstacle](place)
    kind = place.lstat().st_mode
    with pytest.raises(ValueError, match=f"{place}.* (is a link|is not a regular file|exists already)"):
        OUTPUTS[name](files, str(tmp_path / "out"))
    assert place.lstat().st_mode == kind
    written = {path for path in (tmp_path / "out").rglob("*") if path.is_file() and path != place}
    assert {path.name for path in written} <= {"mine.txt"}, "nothing is written beside the obstacle"


@every_output
@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_an_input_is_never_written_over(files, tmp_path, name, link):
    # the output is the input itself, under another name
    place = tmp_path / "out" / name
    place.parent.mkdir(parents=True)
    save_json(files / "metrics.json", METRICS)
    source = files / ("metrics.json" if name == "rows.json" else "birth_dev.tsv")
    link(source, place)
    before = source.read_bytes()
    with pytest.raises(ValueError, match=f"{place}"):
        OUTPUTS[name](files, str(tmp_path / "out"))
    assert source.read_bytes() == before


def test_results_are_written_over_earlier_results_only(files, tmp_path):
    for name, content in {"corpus.txt": "Ada.", "config.json": '{"hidden_size": 5}', "list.json": "[1]"}.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match="is a file of another kind: it is not replaced"):
            run_evaluate(files, str(tmp_path / "out"), results_file=str(tmp_path / name))
        with pytest.raises(ValueError, match="is a file of another kind: it is not replaced"):
            compare(CompareSettings(metrics_files=[], output_file=str(tmp_path / name)))
        assert (tmp_path / name).read_text() == content
    for _ in range(2):
        run_evaluate(files, str(tmp_path / "out"), results_file=str(tmp_path / "results.json"))
        compare(CompareSettings(metrics_files=[str(tmp_path / "results.json")], output_file=str(tmp_path / "rows")))
    assert json.loads((tmp_path / "rows").read_text())[0]["total"] == 20


COMMANDS = {
    function.__name__.removeprefix("run_"): function
    for function in (*OUTPUTS.values(), run_quickstart, run_pretrain, run_push)
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_cannot_be_made_is_found_before_the_work(files, tmp_path, command):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere")
    for place in (tmp_path / "file" / "out", tmp_path / "lost" / "out"):
        with pytest.raises(ValueError, match="is not a folder"):
            COMMANDS[command](files, str(place))
    assert (tmp_path / "file").read_text() == "mine" and not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_without_permission_is_found_before_the_work(files, tmp_path, command, monkeypatch):
    # permissions do not stop an administrator, so the answer of the system is replaced
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(ValueError, match=f"there is no permission to write into {tmp_path}"):
        COMMANDS[command](files, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_one_line_and_leaves_the_earlier_file(tmp_path, monkeypatch):
    write_text(tmp_path / "a.txt", "before")

    def fail(self, text, encoding):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(ValueError, match="a.txt cannot be written: No space left on device"):
        write_text(tmp_path / "a.txt", "after")
    assert (tmp_path / "a.txt").read_text() == "before" and len(list(tmp_path.iterdir())) == 1
