"""The benchmark of attention types: every row can be measured, and the page says so."""

import importlib.util
import json
import math
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "attention.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("attention_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_row_can_be_measured_in_every_scope(benchmark):
    for name in benchmark.SETTINGS:
        measured = {}
        for scope in benchmark.SCOPES:
            measured |= benchmark.Measurement(scope, name, 32, 2, "cpu").step()
        metrics = {"model_ms", "model_MB", "mixer_ms", "mixer_MB", "decoding_ms", "read_ms", "state_MB"}
        missing = {"mixer_ms", "mixer_MB"} if name == "perceiver" else set()
        assert measured.keys() == metrics - missing, name


def test_the_state_of_softmax_is_its_keys_and_values_and_that_of_a_recurrence_does_not_grow(benchmark):
    state = {
        (name, n): benchmark.decode(name, n, 1, "cpu")()["state_MB"]
        for name in ("softmax", "gated_deltanet", "performer", "linformer")
        for n in (32, 64)
    }
    # keys and values of 4 layers, 256 wide, 4 bytes a number
    assert state["softmax", 64] == pytest.approx(2 * 4 * 256 * 64 * 4 / 1e6)
    for name in ("gated_deltanet", "performer", "linformer"):
        assert state[name, 32] == state[name, 64] > 0


def test_slopes_are_those_of_the_power_that_time_grows_with(benchmark):
    rows = [
        {"name": "quadratic", "n": n, "model_ms": 1e-6 * n**2, "mixer_ms": 3.0 * n} for n in (128, 1024, 8192, 16384)
    ]
    rows[0]["model_ms"] = math.pi
    (slopes,) = benchmark.slopes(rows)
    assert slopes["model_ms"] == pytest.approx(2.0)
    assert slopes["mixer_ms"] == pytest.approx(1.0)
    assert "decoding_ms" not in slopes


def test_a_ratio_compares_steps_of_one_round(benchmark):
    # a machine that becomes four times as slow, after a first step that is slow for each
    speeds, rounds = {"softmax": 1.0, "performer": 0.5}, [90.0, 2.0, 4.0, 8.0]
    steps = [[{"model_ms": slow * speed, "model_MB": slow} for speed in speeds.values()] for slow in rounds]
    softmax, performer = benchmark.summarise("model", list(speeds), steps)
    assert performer == {"name": "performer", "model_ms": 1.0, "model_MB": 90.0, "model_ratio": 0.5}
    assert softmax["model_ms"] == 2.0


def test_a_row_without_memory_has_no_ratio_and_a_dash(benchmark):
    rows = benchmark.summarise("model", ["softmax", "bigbird"], [[{"model_ms": 2.0, "model_MB": 1.0}, {}]])
    assert rows[0]["model_ratio"] == 1.0
    assert "model_ratio" not in rows[1]
    assert "| bigbird | 128 | – |" in benchmark.markdown_table([row | {"n": 128} for row in rows], benchmark.COLUMNS)


@pytest.mark.slow
def test_the_run_leaves_figures_a_page_and_a_plot(benchmark, tmp_path, monkeypatch):
    command = ["attention.py", "--names", "softmax", "performer", "--lengths", "32", "64", "--tokens", "64"]
    command += ["--decoding_lengths", "64", "--rounds", "2", "--output_stem", str(tmp_path / "metrics")]
    monkeypatch.setattr(sys, "argv", command)
    monkeypatch.setattr(benchmark.Measurement, "close", lambda self: None, raising=False)
    monkeypatch.setattr(benchmark, "MeasurementAlone", benchmark.Measurement)
    benchmark.main()
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert [(row["name"], row["n"]) for row in metrics["rows"]] == [
        ("softmax", 32),
        ("performer", 32),
        ("softmax", 64),
        ("performer", 64),
    ]
    page = (tmp_path / "metrics.md").read_text()
    assert "| performer | 64 |" in page and "bigbird" not in page
    assert (tmp_path / "metrics.svg").read_text().startswith("<?xml")
