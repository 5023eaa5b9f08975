"""The preview prints examples as the model sees them."""

import re

import pytest
from builders import LINES

from birthgpt.commands.preview import COMMAND


@pytest.fixture
def files(tmp_path):
    (tmp_path / "wiki.txt").write_text("\n".join(LINES), encoding="utf-8")
    (tmp_path / "train.tsv").write_text("Where was Ada Lovelace born?\tLondon\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("tokenizer", ["character", "bpe"])
@pytest.mark.parametrize("objective", ["span_corruption", "language_modeling", "name_first", "salient_spans"])
def test_examples_of_lines(files, capsys, objective, tokenizer):
    settings = ["--tokenizer_type", tokenizer, "--vocab_size", "300", "--block_size", "256", "--count", "2"]
    COMMAND(["--objective", objective, "--train_file", str(files / "wiki.txt"), *settings])
    shown = capsys.readouterr().out
    assert shown.startswith("x: ") and shown.count("\ny: ") == 2
    assert "Lovelace" in shown.split("\ny: ")[0] and "␃" in shown.split("\ny: ")[1]


def test_the_examples_are_those_of_a_pretraining_configuration(files, capsys):
    settings = ["--config", "quickstart/pretrain", "--vocab_size", "300", "--count", "2"]
    for streaming in ("false", "true"):
        COMMAND([*settings, "--train_file", str(files / "wiki.txt"), "--streaming", streaming])
    shown = capsys.readouterr().out.split("\n\n")
    # the objective of the configuration recalls from the name; its model settings are skipped
    assert re.search("Ada Lovelace.*⁇ London", shown[0])
    assert "\n\n".join(shown).strip().count("\ny: ") == 4


def test_examples_of_questions(files, capsys):
    COMMAND(["--question_file", str(files / "train.tsv"), "--train_file", str(files / "wiki.txt")])
    inputs, targets = capsys.readouterr().out.strip().splitlines()
    # the W and the ? of the question are not in these lines: the tokenizer is trained on the questions too
    assert inputs.endswith("Where was Ada Lovelace born?⁇London")
    assert targets.strip("□y: ") == "⁇London␃"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--train_file nowhere.txt", "nowhere.txt"),
        ("--objective spans --train_file {lines}", "objective='spans' does not exist"),
        ("--count 0 --train_file {lines}", "count=0: it must be at least 1"),
    ],
)
def test_mistakes_are_one_line(files, capsys, arguments, message):
    with pytest.raises(SystemExit) as exit_status:
        COMMAND(arguments.format(lines=files / "wiki.txt").split())
    assert exit_status.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ") and message in line
