"""The preview prints what the model sees."""

import pytest
from builders import LINES

from birthgpt.data.preview import main


@pytest.fixture
def files(tmp_path):
    (tmp_path / "wiki.txt").write_text("\n".join(LINES), encoding="utf-8")
    (tmp_path / "train.tsv").write_text("Where was Ada Lovelace born?\tLondon\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("tokenizer", ["character", "bpe"])
@pytest.mark.parametrize("objective", ["span_corruption", "language_modeling", "name_first", "salient_spans"])
def test_examples_of_lines(files, capsys, objective, tokenizer):
    options = ["--tokenizer", tokenizer, "--vocab_size", "300", "--block_size", "256", "--count", "2"]
    main([objective, str(files / "wiki.txt"), *options])
    shown = capsys.readouterr().out
    assert shown.startswith("x: ") and shown.count("\ny: ") == 2
    assert "Lovelace" in shown.split("\ny: ")[0] and "⁇" in shown.split("\ny: ")[1]


def test_examples_of_questions(files, capsys):
    main(["question_answering", str(files / "train.tsv"), "--corpus_file", str(files / "wiki.txt")])
    inputs, targets = capsys.readouterr().out.strip().splitlines()
    # the question's W and ? are not in these lines
    assert inputs.endswith("born�⁇London")
    assert targets.strip("□y: ") == "⁇London⁇"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["span_corruption", "nowhere.txt"], "nowhere.txt"), (["question_answering", "{train}"], "--corpus_file")],
)
def test_mistakes_are_one_line(files, capsys, arguments, message):
    with pytest.raises(SystemExit) as exit_status:
        main([argument.format(train=files / "train.tsv") for argument in arguments])
    assert exit_status.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ") and message in line
