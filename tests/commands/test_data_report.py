"""What a pretraining says about its data before it begins, streamed or not."""

import json
import logging

import pytest
from builders import CAPITALS, run_pretraining

from birthgpt.data.tokenizers import train_character_tokenizer

ONLY_CAPITALS = [argument for name, value in CAPITALS.items() for argument in (f"--{name}", value)]


def test_before_training_the_log_and_a_dry_run_say_what_can_be_asked(people_files, tmp_path, capsys, caplog):
    questions = "Where was Bo Li born?\tFrankfurt (Oder)\nWhere was Al Fox born?\tBonn\nWhere was No One born?\tRome\n"
    (tmp_path / "train.tsv").write_text(questions)
    lines = "Bo Li. Born in Frankfurt (Oder) .\nAl Fox. Born in Bonn .\nada li. was a poet .\nX Y. X was shy .\n" * 8
    (tmp_path / "lines.txt").write_text(lines)
    files = ("--train_file", tmp_path / "lines.txt", "--question_file", tmp_path / "train.tsv")
    settings = ("--objective", "salient_spans", *ONLY_CAPITALS, "--dry_run", True, "--output_dir", tmp_path / "x")
    with caplog.at_level(logging.INFO):
        run_pretraining(*files, *settings)
    assert "8 of 32 lines have no word with a capital or a digit: their spans are cut at random" in caplog.text
    assert "8 of 32 lines have no example in an epoch" in caplog.text
    assert "1 of 3 answers (33.3%) can be a span, and an epoch asks " in caplog.text
    assert " times for each of them; 1 are in no line of their person, first 'Rome' (" in caplog.text
    assert "1 questions about a name in no line, first 'Where was No One born?'" in caplog.text
    assert "answers_as_spans   0.333" in capsys.readouterr().out
    assert "can be a span (%)" not in caplog.text


def test_of_several_relations_the_log_says_which_answers_can_be_asked_for(tmp_path, caplog):
    (tmp_path / "lines.txt").write_text("Bo Li. A poet from Bonn .\nAl Fox. A weaver from Rome .\n" * 20)
    people = {"Bo Li": ("Bonn", "poet"), "Al Fox": ("Rome", "weaver")}
    rows = [
        {"question": f"{relation} of {name}?", "answers": [answer, "x"], "relation": relation}
        for name, answers in people.items()
        for relation, answer in zip(("home", "job"), answers, strict=True)
    ]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    files = ("--train_file", tmp_path / "lines.txt", "--question_file", tmp_path / "train.jsonl")
    settings = ("--objective", "salient_spans", *ONLY_CAPITALS, "--dry_run", True, "--output_dir", tmp_path / "x")
    with caplog.at_level(logging.INFO):
        run_pretraining(*files, *settings)
    home, job = (
        [line.split() for line in caplog.text.splitlines() if line.startswith(name)][0] for name in ("home", "job")
    )
    assert home == ["home", "100.0", "2", "20.0", "–"]
    assert job == ["job", "0.0", "2", "–", "'poet'", "('job", "of", "Bo", "Li?')"]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_corpus_warns_of_unknown_characters_streamed_or_not(people_files, tmp_path, caplog, streaming):
    tokenizer = train_character_tokenizer(["abc"], 64)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    run_pretraining(
        *("--train_file", people_files / "wiki.txt", "--output_dir", tmp_path / "x", "--streaming", streaming),
        *("--tokenizer_name_or_path", tmp_path / "tokenizer", "--dry_run", True),
    )
    assert "wiki.txt: " in caplog.text and "are not in the tokenizer's vocabulary" in caplog.text


@pytest.mark.parametrize("streaming", [False, True])
def test_a_corpus_is_counted_streamed_or_not(tmp_path, caplog, streaming):
    lines = "Bo Li. Born in Bonn .\nAda Li Ada Li was. Born in Rome .\nada li. was a poet .\nnobody\n" * 8
    (tmp_path / "lines.txt").write_text(lines)
    settings = ("--objective", "salient_spans", *ONLY_CAPITALS, "--dry_run", True, "--output_dir", tmp_path / "x")
    with caplog.at_level(logging.INFO):
        run_pretraining("--train_file", tmp_path / "lines.txt", *settings, "--streaming", streaming)
    assert caplog.text.count("lines 32, lines without name 8, names not in line 0, names repeated 3") == 1
    assert "names repeated in themselves, first 'Ada Li Ada Li was'" in caplog.text
    assert "8 of 32 lines have no word with a capital or a digit" in caplog.text


@pytest.mark.parametrize("streaming", [False, True])
def test_lines_of_their_names_alone_are_refused(tmp_path, streaming):
    (tmp_path / "lines.txt").write_text("Ada Byron. Ada Byron stayed. Byron left.\n" * 50)
    settings = (
        "--objective",
        "salient_spans",
        *ONLY_CAPITALS,
        "--output_dir",
        tmp_path / "x",
        "--streaming",
        streaming,
    )
    with pytest.raises(ValueError, match="no line has an example for|the corpus has no line for this objective"):
        run_pretraining("--train_file", tmp_path / "lines.txt", *settings)
