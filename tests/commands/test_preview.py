"""The preview prints examples as the model sees them."""

import re

import pytest
from builders import LINES, read_answers

import birthgpt.commands.pretrain as pretraining
from birthgpt.commands.people import PeopleSettings, make_people
from birthgpt.commands.pretrain import PretrainSettings
from birthgpt.commands.preview import COMMAND, PreviewSettings, preview
from birthgpt.data.preview import show_example
from birthgpt.settings import find_config, make_settings, parse_settings

TINY = "--hidden_size 32 --num_hidden_layers 1 --num_attention_heads 2 --intermediate_size 32 --ngram_vocab_size 64"


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


def test_examples_of_questions_follow_those_of_lines(files, capsys):
    COMMAND(["--question_file", str(files / "train.tsv"), "--train_file", str(files / "wiki.txt"), "--count", "2"])
    *lines, question = capsys.readouterr().out.strip().split("\n\n")
    assert len(lines) == 2
    inputs, targets = question.splitlines()
    # the W and the ? of the question are not in these lines: the tokenizer is trained on the questions too
    assert inputs.endswith("Where was Ada Lovelace born?⁇London")
    assert targets.strip("□y: ") == "⁇London␃"


@pytest.fixture(scope="module")
def related(tmp_path_factory):
    """A folder of people with ten relations, whose questions are a .tsv."""
    folder = tmp_path_factory.mktemp("related") / "files"
    people = {"people": 100, "held_out": 20, "biographies_per_person": 1, "relations": ["all"]}
    make_people(make_settings(PeopleSettings, output_dir=str(folder), **people))
    return folder


@pytest.fixture
def config(related, tmp_path):
    """A configuration that builds on relations/pretrain, as a function of further settings."""

    def write(**values):
        files = {"train_file": related / "biographies.txt", "question_file": related / "questions_train.tsv"}
        values = {
            "defaults": find_config("relations/pretrain").resolve(),
            **files,
            "vocab_size": 600,
            "seed": 3,
            **values,
        }
        path = tmp_path / "config.yaml"
        path.write_text("".join(f"{name}: {value}\n" for name, value in values.items()))
        return str(path)

    return write


def preview_of(config):
    """20 examples of lines, then 20 of questions."""
    return preview(parse_settings(PreviewSettings, ["--config", config, "--count", "20"], file_of=PretrainSettings))


def batches_of_pretraining(config, folder, monkeypatch):
    """The tokenizer and the batches that a pretraining would train on."""
    built = []
    monkeypatch.setattr(pretraining, "describe_run", lambda _, *of_run, **__: built.append(of_run))
    arguments = f"--config {config} --output_dir {folder} --dry_run true {TINY}".split()
    pretraining.pretrain(parse_settings(PretrainSettings, arguments))
    ((tokenizer, batches, *_),) = built
    return tokenizer, batches


def first_examples(batches, tokenizer):
    return [show_example(tokenizer, batches.examples[row]) for row in range(20)]


def test_the_examples_are_those_of_pretraining(config, tmp_path, monkeypatch):
    # most wordings are only in questions that are held out: their words are in cues
    with_questions = config(validation_size=760)
    tokenizer, mixed = batches_of_pretraining(with_questions, tmp_path / "run", monkeypatch)
    expected = first_examples(mixed.lines, tokenizer) + first_examples(mixed.questions, tokenizer)
    assert preview_of(with_questions) == expected


def test_questions_that_are_not_trained_on_are_neither_shown_nor_in_cues(config, tmp_path, monkeypatch):
    without = config(question_ratio=0, eval_steps=2)
    tokenizer, lines = batches_of_pretraining(without, tmp_path / "run", monkeypatch)
    assert preview_of(without) == first_examples(lines, tokenizer)


def test_cues_have_words_of_questions(config):
    def asking(**values):
        shown = preview_of(config(cue_before_name_probability=1, **values))[:20]
        # in these lines, such words have no capital
        return sum(bool(re.search(r"\b(Which|What|Where|Who)\b", text)) for text in shown)

    # the random tokens before a cue may be such words too
    assert asking() > asking(cue_question_words=0) + 5


def test_questions_of_a_tsv_vary(config, related):
    asked = {re.match("x: (.*?)⁇", text)[1].strip() for text in preview_of(config())[20:]}
    assert len(asked) == 20 and len(asked - read_answers(related / "questions_train.tsv").keys()) > 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--train_file nowhere.txt", "nowhere.txt"),
        ("--objective spans --train_file {lines}", "objective='spans' does not exist"),
        ("--count 0 --train_file {lines}", "count=0: it must be at least 1"),
        ("--train_file {lines} --question_file {train} --validation_size 1", "train.tsv: validation_size=1 of 1"),
        ("--train_file {lines} --question_file {train} --streaming true", "cannot be mixed into a stream"),
    ],
)
def test_mistakes_are_one_line(files, capsys, arguments, message):
    with pytest.raises(SystemExit) as exit_status:
        COMMAND(arguments.format(lines=files / "wiki.txt", train=files / "train.tsv").split())
    assert exit_status.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ") and message in line
