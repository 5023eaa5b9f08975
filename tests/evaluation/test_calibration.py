"""A calibration: what it learns from signals whose truth is known, and what it refuses."""

import ast
import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import tiny_model
from scipy.special import softmax

import birthgpt.evaluation
from birthgpt import BirthGPTForCausalLM
from birthgpt.evaluation.answering import Answer
from birthgpt.evaluation.calibration import (
    CALIBRATION,
    Calibration,
    features,
    fingerprint_of,
    load_calibration,
    save_calibration,
)
from birthgpt.evaluation.calibration_fit import FitSettings, fit_calibration
from birthgpt.evaluation.confidence import judge, signal_source
from birthgpt.evaluation.confidence_metrics import auroc, calibration_error, error_by_chance
from birthgpt.evaluation.name_likelihood import NameLikelihood
from birthgpt.evaluation.signals import SIGNALS, AnswerSignals, SignalSource
from birthgpt.evaluation.wordings import Wordings


@pytest.fixture(scope="module")
def source(bpe):
    return SignalSource(
        tiny_model(vocab_size=len(bpe)),
        bpe,
        wordings=Wordings([["Where was {name} born?"]]),
        name_likelihood=NameLikelihood.of_names(["Ada Byron", "Bo Li"]),
    )


def draw(count, seed=0, *, invented=False):
    """Signals of answers and whether they are right; two signals say it, and one tells known names from invented."""
    generator = np.random.default_rng(seed)
    log_p = -generator.exponential(1, count)
    likelihood = generator.normal(-3 if invented else -1, 0.5, count)
    right = generator.random(count) < np.exp(0.8 * log_p)
    signals = []
    for one, other in zip(log_p, likelihood, strict=True):
        values = dict.fromkeys(SIGNALS, math.nan)
        values |= {"log_probability": one, "margin": -one + generator.normal(0, 0.3), "name_likelihood": other}
        signals.append(AnswerSignals(Answer("Rome", one), values, "Ada Byron"))
    return signals, (right & (not invented)).tolist()


def fit(source, count=600, *, with_invented=True, people=None, **settings):
    signals, right = draw(count)
    invented = draw(300, 7, invented=True)[0] if with_invented else ()
    people = range(count) if people is None else people
    return fit_calibration(source, signals, right, people, invented, FitSettings(**settings))


@pytest.fixture(scope="module")
def calibration(source):
    return fit(source)


@pytest.mark.parametrize("with_invented", [True, False])
def test_probabilities_are_calibrated_on_other_people_of_the_same_kind(source, with_invented):
    calibration = fit(source, 2000, with_invented=with_invented, unknown_ratio=0.01)
    signals, right = draw(2000, seed=1)
    found = calibration.probabilities(signals)
    assert found.sum(axis=1) == pytest.approx(1)
    assert calibration_error(found[:, 0], right) < 2.5 * error_by_chance(found[:, 0])
    best = auroc(np.array([answer.values["log_probability"] for answer in signals]), np.array(right))
    assert auroc(found[:, 0], np.array(right)) > best - 0.01
    assert (found[:, 2] == 0).all() != with_invented


def test_p_unknown_tells_known_names_from_invented_ones(calibration):
    known, invented = (calibration.probabilities(draw(500, 5, invented=invented)[0]) for invented in (False, True))
    labels = np.arange(1000) < 500
    assert auroc(1 - np.concatenate((known[:, 2], invented[:, 2])), labels) > 0.99


def test_more_unknown_questions_are_expected_by_a_greater_ratio(source):
    means = [fit(source, unknown_ratio=ratio).probabilities(draw(500, 5)[0])[:, 2].mean() for ratio in (0.01, 0.5)]
    assert means[0] < means[1]


def test_applying_is_a_softmax_of_standardised_features_and_what_is_missing_says_nothing(calibration):
    signals, _ = draw(5, seed=3)
    signals[2] = dataclasses.replace(signals[2], values=signals[2].values | {"name_likelihood": math.nan})
    values = np.array([[answer.values[name] for name in calibration.signals] for answer in signals])
    columns = (features(values) - calibration.center) / calibration.scale
    columns[np.isnan(columns)] = 0
    logits = columns @ np.array(calibration.coefficients).T + calibration.intercepts
    assert calibration.probabilities(signals) == pytest.approx(softmax(logits, axis=1))
    assert calibration.signals == ["log_probability", "margin", "name_likelihood"]


def test_what_is_saved_is_loaded_and_judges_the_same(source, calibration, tmp_path):
    save_calibration(tmp_path, calibration)
    loaded = load_calibration(str(tmp_path), source.model)
    assert loaded == calibration
    signals, _ = draw(200, seed=4)
    assert judge(loaded, signals, 0.1) == judge(calibration, signals, 0.1)
    assert loaded.likelihood_of_names("Ada Byron") == source.name_likelihood("Ada Byron")


def test_verdicts_follow_the_threshold_and_the_probability_of_unknown(source):
    calibration = fit(source, 2000)
    signals, right = draw(3000, seed=6)
    unsaid = dataclasses.replace(signals[0], answer=Answer("", -0.1, is_unknown=True), name=None, in_scope=False)
    answers = judge(calibration, [unsaid, *signals], 0.2)
    assert (answers[0].verdict, answers[0].in_scope, answers[0].right) == ("unknown", False, 0)
    given = [is_right for answer, is_right in zip(answers[1:], right, strict=True) if answer.verdict == "recalled"]
    assert len(given) > 500 and 1 - np.mean(given) < 0.2
    lowest = min(answer.right for answer in answers[1:] if answer.verdict == "recalled")
    for answer in answers[1:]:
        is_unknown = answer.unknown > calibration.unknown_threshold
        assert answer.verdict == ("unknown" if is_unknown else "recalled" if answer.right >= lowest else "unsure")
        assert answer.text == "Rome" and answer.in_scope
    invented = judge(calibration, draw(500, 8, invented=True)[0], 0.2)
    assert sum(answer.verdict == "recalled" for answer in invented) <= 15
    # no risk is so small that everything passes, and none is given without a threshold
    assert {answer.verdict for answer in judge(calibration, signals, 1e-6)} <= {"unsure", "unknown"}


@pytest.mark.slow
def test_the_whole_calibration_keeps_its_promise_on_redrawn_people(source):
    population, right = draw(3000, seed=9)
    invented = draw(100, 10, invented=True)[0]
    generator = np.random.default_rng(0)
    met = answered = 0
    for seed in range(40):
        chosen = generator.integers(0, 3000, 600)
        calibration = fit_calibration(
            source,
            [population[index] for index in chosen],
            [right[index] for index in chosen],
            range(600),
            invented,
            FitSettings(seed=seed),
        )
        answers = judge(calibration, population, 0.3)
        given = [is_right for answer, is_right in zip(answers, right, strict=True) if answer.verdict == "recalled"]
        met += not given or 1 - np.mean(given) <= 0.3
        answered += len(given) > 300
    # 38 are expected at least; fewer than 35 have a probability of 1% then
    assert met >= 35 and answered > 20


def test_a_person_is_never_in_both_parts(source):
    calibration = fit(source, 600, people=[number % 200 for number in range(600)])
    assert calibration.about["people"] == {"fit": 100, "thresholds": 100}
    assert calibration.about["questions"] == {"fit": 300, "thresholds": 300}
    # all thresholds are counted on the people that the regression has not seen
    assert max(threshold.answered for threshold in calibration.thresholds) <= 300


def test_a_calibration_is_the_same_for_the_same_seed_only(source, calibration):
    assert fit(source) == calibration
    assert fit(source, seed=1) != calibration


@pytest.mark.parametrize("is_right", [True, False])
def test_answers_that_are_all_right_or_all_wrong_are_refused(source, is_right):
    signals, _ = draw(100)
    with pytest.raises(ValueError, match=f"all 100 answers .* are {'right' if is_right else 'wrong'}: a calibration"):
        fit_calibration(source, signals, [is_right] * 100, range(100))


def test_too_few_people_are_refused(source):
    signals, right = draw(100)
    with pytest.raises(ValueError, match="19 held-out people are too few .* at least 20"):
        fit_calibration(source, signals, right, [number % 19 for number in range(100)])
    with pytest.raises(ValueError, match="0 held-out people are too few"):
        fit_calibration(source, [], [], [])


def test_a_fit_without_a_wrong_answer_is_refused(source):
    signals, _ = draw(40)
    right = [True] * 39 + [False]
    with pytest.raises(ValueError, match="the answers about the 20 people of the fit are all right or all wrong"):
        for seed in range(20):
            fit_calibration(source, signals, right, range(40), settings=FitSettings(seed=seed))


def test_a_fingerprint_is_that_of_the_weights_however_they_are_saved(source, tmp_path):
    model = tiny_model(vocab_size=40)
    found = fingerprint_of(model)
    model.save_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "parts", max_shard_size="20KB")
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 1
    for folder in ("whole", "parts"):
        assert fingerprint_of(BirthGPTForCausalLM.from_pretrained(tmp_path / folder, dtype=torch.float64)) == found
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1e-12
    assert fingerprint_of(model) != found


def test_a_calibration_of_another_checkpoint_is_refused(source, calibration, tmp_path):
    save_calibration(tmp_path, calibration)
    with pytest.raises(ValueError, match=f"{CALIBRATION} belongs to another checkpoint: .* run `birthgpt calibrate"):
        load_calibration(str(tmp_path), tiny_model(vocab_size=40))
    with pytest.raises(ValueError, match="agreement of 0 other checkpoints, which are not the 1 given ones"):
        load_calibration(str(tmp_path), source.model, [source.model])


def test_a_checkpoint_without_calibration_is_refused(source, tmp_path):
    with pytest.raises(ValueError, match="has no calibration.json: run `birthgpt calibrate"):
        load_calibration(str(tmp_path), source.model)
    with pytest.raises(ValueError, match="has no calibration.json, or it cannot be reached"):
        load_calibration("nobody/has-this-model", source.model)


DAMAGES = {
    "another format": lambda content: content | {"format": 99},
    "missing": lambda content: {key: value for key, value in content.items() if key != "scale"},
    "more": lambda content: content | {"surprise": 1},
    "signal": lambda content: content | {"signals": ["mood", *content["signals"][1:]]},
    "shape": lambda content: content | {"intercepts": [0.0]},
    "scale": lambda content: content | {"scale": [0.0] * len(content["scale"])},
    "number": lambda content: content | {"center": ["x"] * len(content["center"])},
    "thresholds": lambda content: content | {"thresholds": [1]},
    "wordings": lambda content: content | {"wordings": [["Where?"]]},
    "list": lambda content: [content],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused_in_one_line(source, calibration, tmp_path, damage):
    path = save_calibration(tmp_path, calibration)
    path.write_text(json.dumps(DAMAGES[damage](json.loads(path.read_text()))))
    with pytest.raises(ValueError, match=CALIBRATION) as error:
        load_calibration(str(tmp_path), source.model)
    assert "\n" not in str(error.value)


def test_only_the_fit_needs_scikit_learn():
    for file in Path(birthgpt.evaluation.__file__).parent.glob("*.py"):
        imported = {
            name.split(".")[0]
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in ([node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
        }
        assert "scipy" not in imported
        assert ("sklearn" in imported) == (file.name == "calibration_fit.py"), file.name


@pytest.mark.slow
def test_a_calibration_is_applied_without_the_code_of_training():
    program = "import sys; import birthgpt.evaluation.confidence, birthgpt.evaluation.calibration; "
    program += "print([name for name in sys.modules if name.startswith(('birthgpt.training', 'birthgpt.commands'))])"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


ODD = [None, "x", -1, 0, 1e308, 10**30, [], {}, [[]], True, ["x"], {"a": "b"}, [None], "nan"]


@pytest.mark.parametrize("key", [field.name for field in dataclasses.fields(Calibration)])
def test_odd_values_of_any_part_are_refused_or_can_be_used(source, calibration, tmp_path, key):
    path = save_calibration(tmp_path, calibration)
    content = json.loads(path.read_text())
    signals, _ = draw(20, seed=3)
    for odd in ODD:
        values = [odd]
        if isinstance(content[key], list) and content[key]:
            values += [[odd, *content[key][1:]], content[key][1:], content[key] * 2]
        if isinstance(content[key], dict):
            values += [content[key] | {name: odd} for name in content[key]]
        for value in values:
            path.write_text(json.dumps(content | {key: value}))
            try:
                loaded = load_calibration(str(tmp_path), source.model)
            except ValueError as error:
                assert CALIBRATION in str(error) and "\n" not in str(error)
                continue
            answers = judge(loaded, signals, 0.2)
            assert all(0 <= answer.right <= 1 and 0 <= answer.unknown <= 1 for answer in answers)
            signal_source(source.model, source.tokenizer, loaded)
