"""The page of `birthgpt app` in a browser, on desktop and phone: every part, every attention type, odd questions."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from builders import run_finetuning, run_pretraining

from birthgpt.app.page import launch_page
from birthgpt.commands.app import AppSettings, make_page, short_names
from birthgpt.commands.calibrate import CalibrateSettings, calibrate
from birthgpt.commands.loading import load_model_and_tokenizer
from birthgpt.commands.push import PushSettings, export
from birthgpt.evaluation.answering import answer_questions
from birthgpt.settings import make_settings

EVIL = "<img src=x onerror=\"document.title='broken'\"> **bold** ${1+1} {{x}}"


@pytest.fixture(scope="module")
def checkpoints(people_files, finetuned, tmp_path_factory):
    """A calibrated checkpoint, and one of a type that has no attention weights."""
    folder = tmp_path_factory.mktemp("app")
    calibrated = shutil.copytree(finetuned, folder / "calibrated")
    asked = [line.split("\t") for line in (people_files / "birth_dev.tsv").read_text().splitlines()]
    answers = answer_questions(*load_model_and_tokenizer(str(finetuned)), [question for question, _ in asked])
    # a calibration needs right and wrong answers, and a model of a few updates has no right ones
    half = [answer.text or "x" if place % 2 else "nowhere" for place, answer in enumerate(answers)]
    rows = [f"{question}\t{answer}\n" for (question, _), answer in zip(asked, half, strict=True)]
    (folder / "held_out.tsv").write_text("".join(rows))
    calibrate(
        make_settings(
            CalibrateSettings,
            model_name_or_path=str(calibrated),
            question_file=str(folder / "held_out.tsv"),
            corpus_file=str(people_files / "wiki.txt"),
            invented_names=60,
        )
    )
    given = ("--attention_type", "gated_deltanet", "--objective", "name_first", "--objective_layout", "unrolled")
    run_pretraining("--train_file", people_files / "wiki.txt", *given, "--output_dir", folder / "deltanet_p")
    run_finetuning(
        "--train_file", people_files / "birth_places_train.tsv", "--model_name_or_path", folder / "deltanet_p",
        "--output_dir", folder / "deltanet",
    )  # fmt: skip
    return [str(calibrated), str(folder / "deltanet")]


@pytest.fixture(scope="module")
def address(checkpoints, people_files, tmp_path_factory):
    """Where the page is served."""
    questions = tmp_path_factory.mktemp("questions") / "questions.tsv"
    questions.write_text(f"Where was {EVIL} born?\nWhere was Ada Lovelace born?\n")
    corpus = shutil.copy(people_files / "wiki.txt", questions.with_name("corpus.txt"))
    with open(corpus, "a", encoding="utf-8") as file:
        file.write("Evil Name. Evil Name was born in <b>Rome</b> ${1+1} .\n")
    given = {"checkpoints": checkpoints, "corpus_file": str(corpus), "question_file": str(questions)}
    page = make_page(make_settings(AppSettings, **given, names_compared=40))
    _, url, _ = launch_page(page, "127.0.0.1", None, wait=False)
    yield url
    page.close()


@pytest.fixture
def opened(page, address):
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(address)
    page.wait_for_selector("#question textarea, #question input")
    yield page
    assert {url for url in requests if not url.startswith((address.rstrip("/"), "data:", "blob:"))} == set()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert "broken" not in page.title() and page.locator(".part img").count() == 0


def ask(page, question):
    """Ask, and wait for the reply; the text of its first part."""
    # what is marked is replaced by the reply
    page.evaluate("document.querySelectorAll('.answer-card').forEach((card) => card.classList.add('earlier'))")
    page.locator("#question textarea, #question input").first.fill(question)
    page.locator("#ask").click()
    page.locator("#part-0 .answer-card:not(.earlier)").wait_for(timeout=60_000)
    page.get_by_text("processing |").first.wait_for(state="detached", timeout=60_000)
    return page.locator("#part-0 .answer-card").inner_text()


def choose(page, name):
    page.locator("#checkpoint input").click()
    page.get_by_role("option", name=re.compile(name)).click()


def test_every_part_of_a_reply_is_shown(opened, people_files):
    question = (people_files / "birth_dev.tsv").read_text().split("\t")[0]
    name = question.removeprefix("Where was ").removesuffix(" born?")
    said = ask(opened, question)
    assert "p(right)" in said and re.search("recalled|unsure|unknown", said)
    assert opened.locator("#part-1 .rail").count() >= 2
    assert re.sub(r"\s+", " ", opened.locator("#part-2 p").first.inner_text()).strip() == question
    assert opened.locator("#part-3 .layer").count() >= 1
    assert f"What was read about {name}" in opened.locator("#part-4").inner_text()


def test_a_name_that_was_never_read_has_its_nearest_names(opened):
    ask(opened, f"Where was {EVIL} born?")
    part = opened.locator("#part-4")
    assert "No line is about <img src=x" in part.inner_text() and "${1+1} {{x}}" in part.inner_text()
    assert part.locator("tbody tr").count() == 5
    cosines = [float(cell) for cell in part.locator("tbody td:nth-child(2)").all_inner_texts()]
    assert cosines == sorted(cosines, reverse=True) and -1 <= min(cosines) and max(cosines) <= 1.001
    ask(opened, "Where was Evil Name born?")
    assert "born in <b>Rome</b> ${1+1}" in part.inner_text() and part.locator("b").count() == 0


def test_another_checkpoint_says_what_it_cannot_show(opened):
    choose(opened, "deltanet")
    said = ask(opened, "Where was Ada Lovelace born?")
    assert "not calibrated" in said
    assert "gated_deltanet gives no weights over tokens" in opened.locator("#part-3").inner_text()
    assert opened.locator("#part-2 .token").count() > 5
    opened.get_by_role("tab", name="Leaderboard").click()
    shown = opened.locator("#leaderboard")
    shown.wait_for()
    assert shown.locator("tbody tr").count() == 2 and "gated_deltanet" in shown.inner_text()


def test_a_question_that_cannot_be_asked_is_one_clear_line(opened):
    for question, message in {"": "there is no question", "x" * 100_000: "has 100,000 characters"}.items():
        said = ask(opened, question)
        assert message in said and "\n" not in said.strip()
        assert opened.locator(".answer-card.fault").count() == 1 and opened.locator("#part-1 .rail").count() == 0


def test_an_example_fills_the_question(opened):
    opened.get_by_text("Where was Ada Lovelace born?").first.click()
    field = opened.locator("#question textarea, #question input").first
    opened.wait_for_timeout(1000)
    assert field.input_value() == "Where was Ada Lovelace born?"


def test_a_space_serves_the_page_without_the_package(checkpoints, people_files, tmp_path):
    """Its folder has everything but the libraries: it runs where this package is not on the path."""
    given = {"model_name_or_path": checkpoints[0], "output_dir": str(tmp_path / "export"), "license": "mit"}
    space = tmp_path / "space"
    settings = {**given, "space_dir": str(space), "space_corpus_file": str(people_files / "wiki.txt")}
    export(make_settings(PushSettings, **settings))
    card = (space / "README.md").read_text()
    assert re.search(r"^sdk: gradio\nsdk_version: [\d.]+\napp_file: app.py$", card, re.M) and "license: mit" in card
    assert any(line.startswith("torch") for line in (space / "requirements.txt").read_text().splitlines())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"GRADIO_SERVER_PORT": str(port), "GRADIO_SERVER_NAME": "127.0.0.1", "HF_HUB_OFFLINE": "1"}
    log = tmp_path / "log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, "app.py"], cwd=space, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                body = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read().decode()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.5)
        assert "Ask what a small GPT remembers" in body
    finally:
        server.terminate()
        server.wait(timeout=30)
    # an earlier Space is replaced, also after it has run
    export(make_settings(PushSettings, **settings, overwrite_output_dir=True))
    with pytest.raises(ValueError, match="is not replaced, because it is not an earlier space"):
        export(make_settings(PushSettings, **settings | {"space_dir": checkpoints[1], "overwrite_output_dir": True}))


def test_names_of_checkpoints_tell_them_apart():
    assert short_names(["runs/a/finetuned", "runs/b/finetuned"]) == ["a/finetuned", "b/finetuned"]
    assert short_names(["runs/a", "runs/b"]) == ["a", "b"] and short_names(["you/model"]) == ["model"]
    with pytest.raises(ValueError, match="given twice"):
        make_settings(AppSettings, checkpoints=["a", "a"])
