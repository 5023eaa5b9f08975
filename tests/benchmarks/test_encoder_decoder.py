"""The table of decoder and encoder–decoder: a small run fills it, and goes on where it stopped."""

import json
from pathlib import Path

import pytest
import torch
from builders import random_tokens, seq2seq_config

from benchmarks import encoder_decoder as benchmark
from birthgpt import BirthGPTEncoder
from birthgpt.model.attention import ATTENTION_TYPES


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def run(folder, *arguments):
    output = folder / "results.json"
    benchmark.main(["--small", "--runs_dir", str(folder / "runs"), "--output_file", str(output), *arguments])
    return json.loads(output.read_text(encoding="utf-8"))


def test_a_small_run_fills_every_form_and_a_finished_row_is_not_run_again(folder, monkeypatch):
    results = run(folder, "--attention_types", "linformer")
    assert [row["form"] for row in results["rows"]] == list(benchmark.DEFAULT_FORMS)
    decoder, *others = results["rows"]
    for row in results["rows"]:
        assert 0 <= row["accuracy"] <= 1 and row["total"] == 20 and row["seconds"] > 0
        assert row["hardware"] and row["date"] and len(row["birthgpt_commands"]) == 3
        # equal FLOPs, up to one update
        assert row["flops"] == pytest.approx(decoder["flops"], rel=0.2)
    for row in others:
        assert row["parameters"] > decoder["parameters"]
        # a token passes one of the stacks, which has cross-attention besides
        assert decoder["weights_of_a_token"] < row["weights_of_a_token"] < 2 * decoder["weights_of_a_token"]
    monkeypatch.setattr(benchmark, "measure", None)
    assert run(folder, "--attention_types", "linformer")["rows"] == results["rows"]
    page = (folder / "results.md").read_text(encoding="utf-8")
    assert page == benchmark.page(results) and "| causal_encoder | linformer |" in page


def test_results_of_other_settings_are_not_mixed(tmp_path):
    output = tmp_path / "results.json"
    options = benchmark.parse(["--output_file", str(output), "--seed", "1"])
    output.write_text(json.dumps(benchmark.open_results(options)), encoding="utf-8")
    assert benchmark.open_results(options)["seed"] == 1
    with pytest.raises(ValueError, match="seed is 1, not 2: give another output_file"):
        benchmark.open_results(benchmark.parse(["--output_file", str(output), "--seed", "2"]))


def test_files_that_are_missing_are_named(tmp_path):
    with pytest.raises(ValueError, match="wiki.txt: there is no such file: .* --data_dir"):
        benchmark.main(["--data_dir", str(tmp_path), "--runs_dir", str(tmp_path / "runs")])


@pytest.mark.parametrize("attention_type", ATTENTION_TYPES)
def test_a_causal_encoder_hides_the_tokens_behind_and_nothing_else_does(attention_type):
    config = seq2seq_config(attention_type)
    if config.encoder_attention_type != attention_type:
        pytest.skip("it has no bidirectional form")
    tokens = random_tokens(1, 9)
    changed = tokens.clone()
    changed[:, 8] = 2 + (changed[:, 8] - 1) % 22
    for causal in (True, False):
        with benchmark.causal_encoder(causal), torch.no_grad():
            torch.manual_seed(0)
            encoder = BirthGPTEncoder(config).double().eval()
            difference = (encoder(tokens)[0] - encoder(changed)[0]).abs()[0, :8].max()
        assert (difference == 0) == causal


def test_differences_are_those_of_the_same_type():
    rows = [
        {"form": form, "attention_type": name, "accuracy": accuracy}
        for form, name, accuracy in (
            ("decoder", "softmax", 0.5),
            ("encoder_decoder", "softmax", 0.6),
            ("causal_encoder", "softmax", 0.55),
            ("encoder_decoder", "bigbird", 0.2),
        )
    ]
    softmax, bigbird = benchmark.differences(rows)
    assert list(softmax.values()) == ["softmax", "+10.0", "+5.0"]
    assert list(bigbird.values()) == ["bigbird", None, None]


def test_the_page_shows_the_results():
    results = Path(benchmark.__file__).with_name("encoder_decoder.json")
    page = results.with_suffix(".md").read_text(encoding="utf-8")
    assert benchmark.page(json.loads(results.read_text(encoding="utf-8"))) == page
