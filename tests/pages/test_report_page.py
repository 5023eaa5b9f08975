"""The page of `birthgpt report` in a browser: nothing is loaded, all figures are drawn, and texts stay texts."""

import json
import re

import numpy as np
import pytest

from birthgpt.commands.report import PageSettings, report
from birthgpt.evaluation.confidence_metrics import adaptive_bins, risk_coverage
from birthgpt.utils.files import save_json

EVIL = "<img src=x onerror=\"document.title='broken'\">**bold** </script>"
SETTINGS = {"learning_rate": 0.1, "seed": 0, "model_name_or_path": None}


def write_run(folder, name, seed, accuracy, *, rate=0.1, calibrated=True, total=40):
    """A run with an evaluation, as training and `evaluate` write them."""
    generator = np.random.default_rng(seed)
    right = (np.arange(total) < round(accuracy * total)).tolist()
    scores = np.where(right, generator.uniform(0.4, 1, total), generator.uniform(0, 0.7, total)).tolist()
    run = {"kind": "finetuning", "command": f"birthgpt finetune --seed {seed}", "hardware": "2 cores", "seed": seed}
    run |= {"steps": 20, "parameters": 1000, "tokens": 5e5, "flops": 1e12 * (1 + rate), "seconds": 60.0}
    history = [{"step": step, "loss": 5 / (step + 1), "held_out_accuracy": step / 40} for step in range(0, 21, 5)]
    settings = SETTINGS | {"learning_rate": rate, "seed": seed, "output_dir": str(folder / name)}
    save_json(folder / name / "run.json", run | {"target_ratio": 0.5, "settings": settings, "history": history})
    metrics = {"name": name, "table": "dev", "accuracy": sum(right) / total, "correct": sum(right), "total": total}
    metrics |= {
        "checkpoint": "..",
        "questions_sha256": "0",
        "finetuning_seed": seed,
        "training_command": [run["command"]],
    }
    metrics |= {key: run[key] for key in ("parameters", "flops", "seconds")}
    bucket = {"accuracy": accuracy, "correct": sum(right), "count": total}
    metrics["slices"] = {"relation": {EVIL: bucket, "birthplace": bucket}, "answer_in_train": {"seen": bucket}}
    if calibrated:
        metrics["confidence"] = {"max_risk": 0.1, "threshold": 0.71}
    rows = [
        {
            "question": f"Where was Person {number} born?" if number else EVIL,
            "name": f"Person {number}",
            "relation": ("birthplace", EVIL)[number % 2],
            "right_answers": ["Rome"],
            "answer": "Rome" if is_right else EVIL,
            "is_right": is_right,
            "probability": score,
            "lines": [f"Person {number}. Born in Rome, moved to {EVIL}."],
            "candidates": [{"answer": "Rome", "probability": 0.5}, {"answer": EVIL, "probability": 0.25}],
        }
        for number, (is_right, score) in enumerate(zip(right, scores, strict=True))
    ]
    evaluation = folder / name / "evaluation"
    save_json(evaluation / "metrics.json", metrics)
    (evaluation / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    judged = [
        {"question": row["question"], "answer": row["answer"], "right": score, "unknown": 0.0, "verdict": "unsure"}
        for row, score in zip(rows, scores, strict=True)
    ]
    if calibrated:
        (evaluation / "confidence.jsonl").write_text("".join(json.dumps(row) + "\n" for row in judged))
    return scores, right


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A report about two seeds of one configuration and another configuration, and the scores of the first run."""
    folder = tmp_path_factory.mktemp("report")
    first = write_run(folder, "run_0", 0, 0.75)
    write_run(folder, "run_1", 1, 0.8)
    write_run(folder, EVIL, 0, 0.5, rate=0.3, calibrated=False)
    return report(PageSettings(runs=[str(folder)], output=str(folder / "page.html"), title=f"Report {EVIL}")), first


@pytest.fixture
def opened(page, written):
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(written[0].as_uri())
    page.wait_for_selector("#answer-list details")
    yield page
    assert [url for url in requests if not url.startswith("file:")] == [] and len(requests) == 1
    assert page.title() == f"Report {EVIL}" and page.locator("img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_leaderboard_has_a_row_for_each_configuration(opened):
    rows = opened.locator("#leaderboard tbody tr")
    assert rows.count() == 2
    assert "77.5 ± 3.5" in rows.first.inner_text() and EVIL in rows.last.inner_text()
    opened.locator(".command summary").first.click()
    assert "birthgpt finetune --seed 0" in opened.locator(".command pre").first.inner_text()
    opened.locator(".copy").first.click()
    opened.get_by_role("button", name="copied").wait_for()


def test_every_figure_is_drawn_and_a_configuration_can_be_hidden(opened):
    curves = opened.locator("#curve-charts figure")
    assert curves.count() == 2 and opened.locator("#curve-charts path.line").count() == 6
    assert opened.locator("#cost-charts circle").count() == 3
    assert opened.locator("#slice-chart .rail").count() == 4
    opened.locator("#curves .legend button").first.click()
    assert opened.locator("#curve-charts path.line").count() == 2
    assert opened.locator("#slice-chart .rail").count() == 2
    opened.locator("#curves .legend button").first.click()
    opened.locator("#slice-kind").select_option("answer_in_train")
    assert opened.locator("#slice-chart .rail").count() == 2
    box = curves.first.locator("svg").bounding_box()
    assert box["width"] > 250 and box["x"] >= 0 and box["x"] + box["width"] <= opened.viewport_size["width"]


def reading(page):
    text = page.locator("#confidence-readout").inner_text()
    threshold, given, _, wrong = map(
        float, re.findall(r"At ([\d.]+), (\d+) of (\d+) .*?(?:; (\d+) of them|$)", text)[0]
    )
    return threshold, given, wrong


def test_the_threshold_is_dragged_and_read_as_python_computes_it(opened, written):
    scores, right = map(np.array, written[1])
    opened.locator("#confidence-run").select_option("run_0, seed 0")
    assert reading(opened)[0] == pytest.approx(0.71, abs=1e-3)
    for threshold in (0.3, 0.5, 0.65):
        opened.locator("#threshold").fill(str(threshold))
        given = scores >= float(opened.locator("#threshold").input_value())
        assert reading(opened) == (pytest.approx(threshold, abs=1e-3), given.sum(), (given & ~right).sum())
    # a pointer on the handle of the first figure, from the end to the middle of the axis
    opened.locator("#risk-coverage svg").scroll_into_view_if_needed()
    handle = opened.locator("#risk-coverage .handle circle").bounding_box()
    figure = opened.locator("#risk-coverage svg").bounding_box()
    opened.mouse.move(handle["x"] + 8, handle["y"] + 8)
    opened.mouse.down()
    opened.mouse.move(figure["x"] + figure["width"] / 2, figure["y"] + 40, steps=4)
    opened.mouse.up()
    _, given, wrong = reading(opened)
    coverage, risk = risk_coverage(scores, right)
    place = np.flatnonzero(np.isclose(coverage * len(scores), given))[0]
    assert abs(coverage[place] - 0.5) < 0.1 and risk[place] == pytest.approx(wrong / given)
    bins = adaptive_bins(scores)
    assert opened.locator("#reliability circle.halo").count() == len(bins)


def test_answers_are_searched_and_opened(opened):
    opened.locator("#answer-run").select_option("run_0, seed 0")
    assert opened.locator("#answer-count").inner_text() == "10 of 40 answers"
    card = opened.locator("#answer-list details").first
    card.locator("summary").click()
    body = card.locator(".body")
    assert EVIL in body.inner_text() and body.locator("mark").first.inner_text() == "Rome"
    assert body.locator("mark.wrong").first.inner_text() == EVIL and body.locator(".rail").count() == 2
    opened.locator("#answer-filter").select_option("all")
    assert opened.locator("#answer-list details").count() == 25
    opened.locator("#answer-more").click()
    assert opened.locator("#answer-list details").count() == 40
    opened.locator("#answer-search").fill("Person 17 ")
    assert opened.locator("#answer-count").inner_text() == "1 of 40 answers"
    opened.locator("#answer-search").fill("")
    opened.locator("#answer-relation").select_option(EVIL)
    assert opened.locator("#answer-count").inner_text() == "20 of 40 answers"


def test_configurations_differ_in_their_settings_only(opened):
    rows = opened.locator("#configurations tbody tr")
    assert rows.count() == 1 and "learning_rate" in rows.first.inner_text() and "0.3" in rows.first.inner_text()
