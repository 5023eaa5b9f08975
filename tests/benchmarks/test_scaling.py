"""The extrapolation to 100 million people: it can be measured, its arithmetic is that of a hand, the page shows it."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from birthgpt.data.synthetic import write_synthetic_corpus

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("scaling_benchmark", ROOT / "benchmarks" / "scaling.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_run_measures_all_that_it_computes_with(benchmark, tmp_path, monkeypatch, capsys):
    command = ["scaling.py", "--people", "100", "--vocab_size", "400", "--checkpoint_width", "32"]
    # they are measured below
    command += ["--processes"]
    monkeypatch.setattr(sys, "argv", [*command, "--output_file", str(tmp_path / "scaling.json")])
    benchmark.main()
    metrics = json.loads((tmp_path / "scaling.json").read_text())
    measured = metrics["measured"]
    assert all(value > 0 for value in measured.values())
    # float32 weights, and with them two moments of the same size
    assert measured["model_bytes_per_parameter"] == pytest.approx(4, rel=0.2)
    assert measured["checkpoint_bytes_per_parameter"] > 3 * measured["model_bytes_per_parameter"] - 0.1
    assert measured["name_first_tokens_per_line"] > measured["tokens_per_line"]
    printed = capsys.readouterr().out
    assert all(page in printed for page in benchmark.pages(metrics))


@pytest.mark.slow
def test_two_processes_are_measured_as_one_is(benchmark, tmp_path, bpe):
    write_synthetic_corpus(tmp_path / "people", people=100, held_out=1, biographies_per_person=1)
    settings = {"training_width": 32, "checkpoint_width": 64, "updates": 2}
    processes = benchmark.process_metrics(tmp_path, bpe, [1, 2], **settings)
    assert processes["corpus_bytes"] == (tmp_path / "people" / "wiki.txt").stat().st_size
    one, two = processes["by_processes"]["1"], processes["by_processes"]["2"]
    assert [len(found["bytes_read"]) for found in (one, two)] == [1, 2]
    # its lines are fewer than those that are read at a time
    assert one["bytes_read"][0] >= processes["corpus_bytes"] and min(two["bytes_read"]) > 0
    assert one["tokens_per_second"] > 0 and two["tokens_per_second"] > 0
    assert one["checkpoint_bytes"] == pytest.approx(two["checkpoint_bytes"], rel=0.01)
    assert "shards_seconds" not in one and two["gathered_seconds"] > 0
    assert 0 < two["waited_for_shards_seconds"] < two["shards_seconds"]
    first, second = benchmark.processes_table(processes)
    assert (first["processes"], first["s until they are written"]) == ("1", "–")
    assert second["of the corpus, read by each"].count("%") == 2


def test_entropy_is_that_of_the_frequencies(benchmark):
    assert benchmark.entropy("aabb") == 1.0
    assert benchmark.entropy("aaab") == pytest.approx(0.8113, abs=1e-4)


def test_saved_bytes_are_those_of_what_the_backward_needs(benchmark):
    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(8, 8))

        def forward(self, input_ids, use_cache):
            # keeps x for the weight, and the sine's argument once
            return (input_ids @ self.weight).sin()

    tokens = torch.randn(4, 8, requires_grad=True)
    assert benchmark.saved_bytes(Product(), tokens) == 2 * 4 * 8 * 4


def test_time_and_memory_are_those_of_a_reckoning_by_hand(benchmark):
    measured = {
        "tokens_per_line": 50.0,
        "bits_per_birthplace": 8.0,
        "bits_per_person": 40.0,
        "activation_bytes_per_token_layer_and_width": 30.0,
    }
    model = {"parameters": 1_000_000_000, "computing": 1_000_000_000}
    few, many = benchmark.runs_table(measured, benchmark.ASSUMPTIONS, model)
    # 1e8 people × 100 × 50 tokens × 6e9 FLOPs = 3e21, at 3.956e14 a second 87.8 days of a GPU
    assert (few["training tokens"], few["FLOPs"], few["GPU days"]) == ("5.0e+11", "3.0e+21", "88")
    assert (few["of all birthplaces"], many["of all birthplaces"]) == ("125%", "250%")
    assert (few["of all facts"], many["GPU days"]) == ("25%", "878")
    # 87.8 days of 24 hours on 8 GPUs a node
    assert (few["hours on 1 node"], few["hours on 8 nodes"]) == ("263.3", "32.9")
    alone, *_, spread = benchmark.memory_table(measured, benchmark.ASSUMPTIONS, model)
    assert (alone["weights"], alone["moments"], spread["moments"]) == ("4.0", "8.0", "0.1")
    # 20 layers × 30 bytes × 2048 × 32768 tokens
    assert alone["activations"] == spread["activations"] == "40.3"


def test_the_page_shows_the_figures_of_its_json(benchmark):
    metrics = json.loads((ROOT / "benchmarks" / "scaling.json").read_text())
    page = (ROOT / "docs" / "scaling.md").read_text()
    for table in benchmark.pages(metrics):
        assert table in page, table
