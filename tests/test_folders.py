"""A command deletes only what an earlier run of it wrote, and never its inputs or the working folder."""

import json
import os
import shutil
from pathlib import Path

import pytest
from builders import run_finetuning, run_pretraining

from birthgpt.commands.push import PushSettings, export
from birthgpt.commands.quickstart import MOST_COMMON, QuickstartSettings, Runner, new_people
from birthgpt.settings import make_settings
from birthgpt.utils.folders import RECORD, check_may_empty, record_files, remove_recorded


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every path in a folder, and the bytes of each file."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def push(source, target, **settings):
    return export(
        PushSettings(model_name_or_path=str(source), output_dir=str(target), overwrite_output_dir=True, **settings)
    )


def pretrain_again(target, people_files):
    run_pretraining(
        *("--train_file", people_files / "wiki.txt", "--objective", "name_first", "--overwrite_output_dir", True),
        *("--output_dir", target),
    )


def finetune_again(target, people_files):
    run_finetuning(
        *("--train_file", people_files / "birth_places_train.tsv", "--tokenizer_name_or_path", people_files / "tokens"),
        *("--hidden_size", 32, "--overwrite_output_dir", True, "--output_dir", target),
    )


def quickstart_again(target, people_files):
    settings = make_settings(QuickstartSettings, output_dir=str(target), people=120, held_out=20)
    with new_people(settings, Path(target)):
        pass


@pytest.fixture
def work(people_files, finetuned, tmp_path):
    """A folder of a user: a checkpoint in `runs/mine/finetuned`, and other files."""
    shutil.copytree(finetuned, tmp_path / "runs" / "mine" / "finetuned")
    (tmp_path / "runs" / "mine" / "notes.txt").write_text("mine")
    (tmp_path / "thesis.txt").write_text("years")
    return tmp_path


@pytest.mark.parametrize("place", ["runs/mine", "runs", ".", "runs/mine/finetuned", "runs/../runs/mine", "link"])
def test_push_deletes_neither_the_source_nor_a_folder_around_it(work, place):
    (work / "link").symlink_to(work / "runs")
    before = contents(work)
    with pytest.raises(ValueError, match="contains model_name_or_path=.*: choose another"):
        push(work / "runs" / "mine" / "finetuned", work / place)
    assert contents(work) == before


AGAIN = {"pretrain": pretrain_again, "finetune": finetune_again, "quickstart": quickstart_again}


@pytest.fixture
def again(request, people_files, finetuned):
    """A command that is repeated, as a function of its output folder."""
    if request.param == "push":
        return lambda target: push(finetuned, target)
    if not (people_files / "tokens").exists():
        shutil.copytree(finetuned, people_files / "tokens")
    return lambda target: AGAIN[request.param](target, people_files)


every_command = pytest.mark.parametrize("again", ["push", *AGAIN], indirect=True)


@every_command
def test_a_folder_of_another_kind_is_never_emptied(again, work, monkeypatch):
    (work / "other").mkdir()
    (work / "other" / "important.txt").write_text("years")
    # what another command wrote is as foreign as what a user wrote
    record_files(work / "runs", "another", ["mine/notes.txt"])
    monkeypatch.chdir(work / "runs" / "mine")
    before = contents(work)
    for place in ("../../other", "..", ".", str(work), str(work / "runs" / "mine" / "notes.txt")):
        with pytest.raises(ValueError, match="(choose another|choose a folder)"):
            again(place)
        assert contents(work) == before


@every_command
def test_what_a_user_adds_to_an_output_folder_stays(again, tmp_path):
    place = tmp_path / "out"
    again(place)
    first = contents(place)
    (place / "notes.txt").write_text("mine")
    (place / "evaluation").mkdir()
    (place / "evaluation" / "mine.txt").write_text("mine")
    (place / "outside").symlink_to(tmp_path)
    again(place)
    second = contents(place)
    assert second.pop("notes.txt") == second.pop("evaluation/mine.txt") == b"mine"
    assert second.keys() - {"evaluation", "outside"} == first.keys()


@every_command
def test_a_link_in_the_place_of_an_output_file_is_removed_and_its_target_stays(again, tmp_path):
    place, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    again(place)
    elsewhere.mkdir()
    for name in json.loads((place / RECORD).read_text())["files"]:
        if (place / name).is_file():
            target = elsewhere / name.replace("/", "_")
            os.replace(place / name, target)
            (place / name).symlink_to(target)
    before = contents(elsewhere)
    again(place)
    assert contents(elsewhere) == before
    assert not any(path.is_symlink() for path in place.rglob("*"))


def test_a_finetuned_model_in_the_folder_of_its_pretraining_survives_a_new_pretraining(people_files, tmp_path):
    place = tmp_path / "mine"
    pretrain_again(place, people_files)
    run_finetuning(
        *("--train_file", people_files / "birth_places_train.tsv", "--model_name_or_path", place),
        *("--output_dir", place / "finetuned"),
    )
    before = contents(place / "finetuned")
    pretrain_again(place, people_files)
    assert contents(place / "finetuned") == before


def test_a_checkpoint_that_would_stay_in_a_new_run_is_refused(people_files, tmp_path):
    place = tmp_path / "mine"
    pretrain_again(place, people_files)
    (place / "checkpoint-900").mkdir()
    (place / "checkpoint-900" / "mine.txt").write_text("mine")
    before = contents(place)
    with pytest.raises(ValueError, match="checkpoint-900/mine.txt is not of the run"):
        pretrain_again(place, people_files)
    assert contents(place) == before


def test_the_models_of_several_seeds_replace_only_themselves(people_files, tmp_path):
    def train(*seeds):
        run_pretraining(
            *("--train_file", people_files / "wiki.txt", "--objective", "name_first", "--overwrite_output_dir", True),
            *("--hidden_dropout", 0, "--attention_dropout", 0, "--output_dir", tmp_path / "mine", "--seeds", *seeds),
        )

    train(0, 1)
    (tmp_path / "mine" / "seed-1" / "notes.txt").write_text("mine")
    train(2)
    left = {name for name in contents(tmp_path / "mine") if name.startswith(("seed-0", "seed-1"))}
    assert left == {"seed-1", "seed-1/notes.txt"}
    (tmp_path / "mine" / "seed-3").mkdir()
    (tmp_path / "mine" / "seed-3" / "notes.txt").write_text("mine")
    before = contents(tmp_path / "mine")
    with pytest.raises(ValueError, match="seed-3 is not replaced"):
        train(2, 3)
    assert contents(tmp_path / "mine") == before


@pytest.mark.parametrize("files", [["../mine.txt"], ["/etc/passwd"], "mine.txt", [["mine.txt"]], None, ["link/*"]])
def test_a_damaged_record_deletes_nothing_outside_its_folder(tmp_path, files):
    place = tmp_path / "out"
    place.mkdir()
    (tmp_path / "mine.txt").write_text("mine")
    (place / "link").symlink_to(tmp_path)
    (place / RECORD).write_text(json.dumps({"kind": "run", "files": files, "folders": ["..", "link"]}))
    try:
        remove_recorded(place, "run")
    except ValueError as error:
        assert "is not replaced" in str(error)
    assert (tmp_path / "mine.txt").read_text() == "mine" and place.is_dir()


def test_a_missing_and_an_empty_folder_may_be_used(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_may_empty(tmp_path / "missing", "run")
    check_may_empty(tmp_path, "run")


def test_only_the_evaluations_of_the_quickstart_itself_are_replaced(people_files, finetuned, tmp_path):
    def evaluate_again():
        quickstart_again(tmp_path / "out", people_files)
        run = Runner(settings, tmp_path / "out")
        run.evaluate(MOST_COMMON)

    settings = make_settings(QuickstartSettings, output_dir=str(tmp_path / "out"), people=120, held_out=20)
    evaluate_again()
    mine = tmp_path / "out" / "evaluation" / "mine" / "predictions.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    evaluate_again()
    assert mine.read_text() == "mine"
    quickstart_again(tmp_path / "out", people_files)
    assert [path.name for path in (tmp_path / "out" / "evaluation").iterdir()] == ["mine"]
