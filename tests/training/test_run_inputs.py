"""A resumed run has the data and the tokenizer that it was started with."""

import json
import shutil

import datasets
import pytest
from accelerate import Accelerator
from builders import LINES, QUESTION, losses, run_finetuning, run_pretraining
from processes import in_two_processes
from transformers import AutoTokenizer

from birthgpt.commands import building
from birthgpt.data.corpus import load_corpus
from birthgpt.data.tokenizers import train_bpe_tokenizer
from birthgpt.training.manifest import write_manifest
from birthgpt.training.run_inputs import (
    check_inputs_of_processes,
    fingerprint_data,
    fingerprint_files,
    fingerprint_tokenizer,
)

LATEST = ("--resume_from_checkpoint", "latest")


@pytest.fixture
def files(people_files, tmp_path):
    """Data of their own, which a test can change."""
    return shutil.copytree(people_files, tmp_path / "files")


def interrupt(run) -> None:
    """Leave only the first checkpoint of a run, as if it had been killed."""
    shutil.rmtree(run / "checkpoint-4")
    for name in ("config.json", "run.json", "manifest.json"):
        (run / name).unlink()


def change(file) -> None:
    """Another birth place in the first line."""
    text = file.read_text()
    place = next(place for place in ("London", "Paris", "Berlin", "Vienna", "born") if place in text)
    file.write_text(text.replace(place, place[::-1], 1))


@pytest.mark.parametrize("streaming", [False, True])
def test_a_pretraining_with_another_corpus_is_not_resumed(files, tmp_path, streaming):
    settings = ["--train_file", files / "wiki.txt", "--output_dir", tmp_path / "run", "--save_steps", 2]
    settings += ["--objective", "name_first", "--streaming", streaming]
    run_pretraining(*settings)
    interrupt(tmp_path / "run")
    change(files / "wiki.txt")
    with pytest.raises(ValueError, match="run was started with another content of train_file: bring back the old one"):
        run_pretraining(*settings, *LATEST)


def test_a_pretraining_with_other_answers_is_not_resumed(files, tmp_path):
    questions = files / "birth_places_train.tsv"
    settings = ["--train_file", files / "wiki.txt", "--output_dir", tmp_path / "run", "--save_steps", 2]
    settings += ["--objective", "name_first", "--question_file", questions, "--question_ratio", 0.5]
    run_pretraining(*settings)
    interrupt(tmp_path / "run")
    question, _ = questions.read_text().splitlines()[0].split("\t")
    questions.write_text(questions.read_text().replace(f"{question}\t", f"{question}\tNew ", 1))
    with pytest.raises(ValueError, match="another content of question_file"):
        run_pretraining(*settings, *LATEST)


def test_a_finetuning_with_other_answers_or_another_start_is_not_resumed(files, pretrained, tmp_path):
    questions, start = files / "birth_places_train.tsv", shutil.copytree(pretrained, tmp_path / "start")
    settings = ["--train_file", questions, "--model_name_or_path", start, "--save_steps", 2]
    settings += ["--output_dir", tmp_path / "run"]
    run_finetuning(*settings)
    interrupt(tmp_path / "run")
    before = questions.read_text()
    questions.write_text(before + "Where was Ada Lovelace born?\tLondon\n")
    with pytest.raises(ValueError, match="another content of train_file"):
        run_finetuning(*settings, *LATEST)
    questions.write_text(before)
    (start / "manifest.json").unlink()
    config = json.loads((start / "config.json").read_text())
    (start / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 0.1}))
    with pytest.raises(ValueError, match="another content of model_name_or_path"):
        run_finetuning(*settings, *LATEST)


def test_a_named_tokenizer_that_has_changed_is_refused(files, bpe, tmp_path):
    bpe.save_pretrained(tmp_path / "tokenizer")
    settings = ["--train_file", files / "wiki.txt", "--output_dir", tmp_path / "run", "--save_steps", 2]
    settings += ["--objective", "name_first", "--tokenizer_name_or_path", tmp_path / "tokenizer"]
    run_pretraining(*settings)
    interrupt(tmp_path / "run")
    train_bpe_tokenizer([*LINES, "other words"], 320, 128).save_pretrained(tmp_path / "tokenizer")
    with pytest.raises(ValueError, match="another content of tokenizer"):
        run_pretraining(*settings, *LATEST)


@pytest.mark.parametrize("command", ["pretrain", "finetune"])
def test_the_tokenizer_of_a_resumed_run_is_loaded_and_not_trained_again(files, tmp_path, monkeypatch, command):
    settings = ["--output_dir", tmp_path / "run", "--save_steps", 2, "--logging_steps", 1, "--vocab_size", 400]
    settings += ["--tokenizer_type", "bpe", "--hidden_size", 32, "--num_hidden_layers", 1, "--num_attention_heads", 2]
    run = run_pretraining if command == "pretrain" else run_finetuning
    if command == "pretrain":
        settings += ["--train_file", files / "wiki.txt", "--objective", "name_first"]
    else:
        settings += ["--train_file", files / "birth_places_train.tsv", "--corpus_file", files / "wiki.txt"]
    whole = run(*settings)
    interrupt(tmp_path / "run")
    monkeypatch.setattr(building, "train_tokenizer", lambda *_: pytest.fail("trained again"))
    assert losses(run(*settings, *LATEST)) == losses(whole)


def test_a_run_whose_checkpoint_has_no_tokenizer_is_not_resumed(files, tmp_path):
    settings = ["--train_file", files / "wiki.txt", "--output_dir", tmp_path / "run", "--save_steps", 2]
    run_pretraining(*settings)
    interrupt(tmp_path / "run")
    (tmp_path / "run" / "checkpoint-2" / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"no valid checkpoint to resume from: .*tokenizer.json is missing"):
        run_pretraining(*settings, *LATEST)
    (tmp_path / "run" / "checkpoint-2" / "tokenizer_config.json").unlink()
    write_manifest(tmp_path / "run" / "checkpoint-2")
    with pytest.raises(ValueError, match=r"checkpoint-2 has no tokenizer: tokenizer_config.json is missing"):
        run_pretraining(*settings, *LATEST)


def test_a_run_without_fingerprints_is_resumed_with_a_warning(files, tmp_path, caplog):
    settings = ["--train_file", files / "wiki.txt", "--output_dir", tmp_path / "run", "--save_steps", 2]
    run_pretraining(*settings)
    interrupt(tmp_path / "run")
    (tmp_path / "run" / "inputs.json").unlink()
    run_pretraining(*settings, *LATEST)
    assert "does not contain the fingerprints of its data" in caplog.text


def test_the_fingerprint_of_data_is_that_of_its_rows(tmp_path):
    (tmp_path / "a.txt").write_text("".join(f"{line}\n" for line in LINES))
    (tmp_path / "b.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in LINES))
    rows = load_corpus(str(tmp_path / "a.txt"))
    found = fingerprint_data(rows, None)
    # the same rows in another file
    assert fingerprint_data(load_corpus(str(tmp_path / "b.jsonl")), None) == found
    assert fingerprint_data(rows.select([1, 0, 2, 3]), None) != found
    assert fingerprint_data(rows.select([0, 1, 2]), None) != found
    assert fingerprint_data(None, None) is None
    assert isinstance(rows, datasets.Dataset)


def test_the_fingerprint_of_a_large_file_depends_on_its_size_and_on_places_all_over_it(tmp_path):
    file, size = tmp_path / "large", 200 << 20
    with file.open("wb") as content:
        content.truncate(size)
    found = {fingerprint_files(str(file))}
    # in the first, a middle and the last piece
    for place in (0, (size - (1 << 20)) * 31 // 63, size - 1):
        with file.open("r+b") as content:
            content.seek(place)
            content.write(b"x")
        found.add(fingerprint_files(str(file)))
    with file.open("ab") as content:
        content.write(b"\0")
    assert len(found | {fingerprint_files(str(file))}) == 5
    assert fingerprint_files("user/dataset") is None


@pytest.mark.parametrize("kind", ["bpe", "characters"])
def test_a_loaded_tokenizer_has_the_fingerprint_of_the_trained_one(kind, request, tmp_path):
    tokenizer = request.getfixturevalue(kind)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    # a call with padding changes the state of a tokenizer
    loaded([QUESTION, "Ada"], padding=True)
    assert fingerprint_tokenizer(loaded) == fingerprint_tokenizer(tokenizer)
    loaded.add_tokens(["Lovelace"])
    assert fingerprint_tokenizer(loaded) != fingerprint_tokenizer(tokenizer)


def compare_inputs() -> str:
    accelerator = Accelerator(cpu=True)
    check_inputs_of_processes({"train_file": "same"}, accelerator)
    try:
        check_inputs_of_processes({"train_file": f"of process {accelerator.process_index}"}, accelerator)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.slow
def test_all_processes_stop_where_one_reads_other_data():
    found = in_two_processes(compare_inputs)
    assert set(found) == {"process 1 reads another content of train_file than the main process"}
