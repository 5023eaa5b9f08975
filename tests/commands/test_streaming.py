"""`pretrain --streaming true` in one process and in two: what it refuses, and that no process waits for another."""

import shutil

import pytest
from builders import run_pretraining
from processes import in_two_processes

from birthgpt.data import shards

PEOPLE = [f"Person Number{number}. Born in the {number}th city." for number in range(80)]


def stream(source, folder, *settings):
    """The number of updates and of targets, or the error."""
    given = ["--train_file", source, "--output_dir", folder, "--streaming", True, "--objective", "language_modeling"]
    # in whichever process this is
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "MIN_SHARD_BYTES", 500)
        try:
            summary = run_pretraining(*given, "--vocab_size", 300, *settings)
        except ValueError as error:
            return str(error)
    return summary.steps, summary.target_ratio * summary.tokens


def stream_all(folder) -> list:
    """What a process finds with files in several shards, with too few lines, and with an empty file in between."""
    cases = {"files": "files/*.txt", "one_line": "one.txt", "blank": "blank/*.txt"}
    return [stream(folder / source, folder / f"run_{name}") for name, source in cases.items()]


def test_two_processes_share_files_and_refuse_too_few_lines(tmp_path):
    for folder in ("files", "blank"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text("\n".join(PEOPLE[:50]))
    (tmp_path / "files" / "b.txt").write_text("")
    (tmp_path / "files" / "c.txt").write_text("\n".join(PEOPLE[50:]))
    # shards of a process without any text
    (tmp_path / "blank" / "a.txt").write_text(PEOPLE[0])
    (tmp_path / "blank" / "b.txt").write_text("\n\n\n")
    (tmp_path / "one.txt").write_text(PEOPLE[0])
    main, other = in_two_processes(stream_all, tmp_path)
    assert main == other
    files, one_line, blank = main
    assert files[0] == 4
    for message in (one_line, blank):
        assert message.startswith("process 1 of 2 has no line with an example for this objective: launch fewer")


def test_a_file_that_vanished_or_was_added_since_the_stop_is_refused(tmp_path):
    (tmp_path / "files").mkdir()
    for name, part in (("a.txt", PEOPLE[:40]), ("b.txt", PEOPLE[40:])):
        (tmp_path / "files" / name).write_text("\n".join(part))
    source, run = tmp_path / "files" / "*.txt", tmp_path / "run"
    assert stream(source, run, "--save_steps", 2)[0] == 4
    shutil.rmtree(run / "checkpoint-4")
    for name in ("config.json", "model.safetensors"):
        (run / name).unlink()
    resumed = ("--save_steps", 2, "--resume_from_checkpoint", "latest")
    (tmp_path / "files" / "c.txt").write_text("Ada Byron. Born in London.")
    assert "was started with another content of train_file: bring back the old one" in stream(source, run, *resumed)
    (tmp_path / "files" / "c.txt").unlink()
    (tmp_path / "files" / "b.txt").rename(tmp_path / "b.txt")
    assert "was started with another content of train_file: bring back the old one" in stream(source, run, *resumed)
    (tmp_path / "b.txt").rename(tmp_path / "files" / "b.txt")
    assert stream(source, run, *resumed)[0] == 4
