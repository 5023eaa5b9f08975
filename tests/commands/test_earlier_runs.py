"""A command that is refused leaves an earlier run as it was, although it may overwrite it."""

import pytest
from builders import run_finetuning, run_pretraining


def contents(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def earlier(pretrained, people_files, tmp_path):
    """The folder of a run, which a new run may overwrite."""
    folder = tmp_path / "earlier"
    run_pretraining("--train_file", people_files / "wiki.txt", "--objective", "name_first", "--output_dir", folder)
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--learning_rate nan", "learning_rate=nan: it must be finite"),
        ("--learning_rate inf", "learning_rate=inf: it must be finite"),
        ("--adam_beta1 2", "adam_beta1=2.0: it must be at least 0 and less than 1"),
        ("--learning_rates 1e-3 nan", "learning_rates=.*: each must be finite"),
        ("--learning_rates 1e-3 -1", "learning_rates=.*: each must be greater than 0"),
        ("--seed -1", "seed=-1: it must be at least 0"),
        ("--seeds 1 99999999999", "seeds=.*: each must be at least 0 and at most 4294967295"),
        ("--initializer_range 1e39", "initializer_range=1e.39: it must be at least 0 and at most 100"),
        ("--ngram_orders 2 100000000", "ngram_orders=.*: each must be at most 100"),
        ("--hidden_size 100000000", "the model cannot be built"),
        ("--tokenizer_name_or_path nowhere", "nowhere"),
        ("--question_file nowhere.tsv", "nowhere.tsv"),
    ],
)
def test_what_is_refused_costs_no_earlier_run(earlier, people_files, arguments, message):
    before = contents(earlier)
    settings = ["--train_file", people_files / "wiki.txt", "--overwrite_output_dir", True, "--output_dir", earlier]
    with pytest.raises(ValueError, match=message) as error:
        run_pretraining(*settings, *arguments.split())
    assert "\n" not in str(error.value)
    assert contents(earlier) == before


def test_a_stream_that_cannot_be_read_costs_no_earlier_run(earlier, bpe, tmp_path):
    before = contents(earlier)
    bpe.save_pretrained(tmp_path / "tokenizer")
    settings = ["--streaming", True, "--tokenizer_name_or_path", tmp_path / "tokenizer", "--objective", "name_first"]
    settings += ["--overwrite_output_dir", True, "--output_dir", earlier]
    for content, message in ((b"no name\n", "no line has an example"), (b"Ada. \xff\n", "not UTF-8")):
        (tmp_path / "lines.txt").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            run_pretraining("--train_file", tmp_path / "lines.txt", *settings)
        assert contents(earlier) == before


@pytest.mark.parametrize("several", [False, True])
def test_an_optimizer_that_cannot_be_built_costs_no_earlier_run(earlier, people_files, monkeypatch, several):
    def fail(*_, **__):
        raise ValueError("no such optimizer")

    monkeypatch.setattr("birthgpt.training.model_group.build_optimizers", fail)
    monkeypatch.setattr("birthgpt.training.stacked_models.build_optimizers", fail)
    before = contents(earlier)
    settings = ["--overwrite_output_dir", True, "--output_dir", earlier, *(["--seeds", 1, 2] if several else [])]
    with pytest.raises(ValueError, match="no such optimizer"):
        run_pretraining("--train_file", people_files / "wiki.txt", *settings)
    with pytest.raises(ValueError, match="no such optimizer"):
        run_finetuning(
            *("--train_file", people_files / "birth_places_train.tsv", "--corpus_file", people_files / "wiki.txt"),
            *("--overwrite_output_dir", True, "--output_dir", earlier),
        )
    assert contents(earlier) == before
