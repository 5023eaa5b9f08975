"""`birthgpt report`: what it finds in folders, which evaluation is of which run, and what it refuses."""

import json
import re
from pathlib import Path

import pytest
from builders import run_finetuning

from birthgpt.cli import main
from birthgpt.commands.evaluate import EvaluateSettings, evaluate
from birthgpt.commands.report import PageSettings, report
from birthgpt.commands.report_data import report_data
from birthgpt.commands.report_runs import find_evaluations
from birthgpt.settings import make_settings
from birthgpt.utils.files import save_json

METRICS = {"name": "mine", "table": "dev", "accuracy": 0.5, "correct": 1, "total": 2}


@pytest.fixture(scope="module")
def runs(people_files, pretrained, tmp_path_factory):
    """A folder with two seeds of one configuration, another configuration, and a baseline."""
    folder = tmp_path_factory.mktemp("report")
    given = {"finetuned_0": ("--seed", "0"), "finetuned_1": ("--seed", "1"), "other": ("--learning_rate", "0.01")}
    for name, settings in given.items():
        run_finetuning(
            "--train_file", people_files / "birth_places_train.tsv", "--model_name_or_path", pretrained,
            "--output_dir", folder / name, "--logging_steps", "2", *settings,
        )  # fmt: skip
        answer(people_files, folder / name / "evaluation", model_name_or_path=str(folder / name), competing_answers=3)
    answer(people_files, folder / "london", baseline="London")
    return folder


def answer(people_files, output, **settings):
    evaluate(
        make_settings(
            EvaluateSettings,
            question_file=str(people_files / "birth_dev.tsv"),
            train_file=str(people_files / "birth_places_train.tsv"),
            corpus_file=str(people_files / "wiki.txt"),
            output_dir=str(output),
            **settings,
        )
    )


@pytest.mark.slow
def test_seeds_are_one_row_and_every_part_of_the_page_has_its_data(runs):
    data = report_data(find_evaluations([str(runs)]), "title")
    (table,) = data["tables"]
    by_name = {row["name"]: row for row in table["rows"]}
    assert by_name.keys() == {"finetuned", "other", "London"}
    assert by_name["finetuned"]["seeds"] == ["0/0", "0/1"] or by_name["finetuned"]["seeds"] == ["0", "0/1"]
    assert by_name["London"]["is_baseline"] and not by_name["other"]["is_baseline"]
    assert by_name["other"]["deviation"] is None and by_name["finetuned"]["deviation"] is not None
    # the pretraining of these tests has logged once, which is no curve
    kinds = {(curve["kind"], curve["metric"]): curve["series"] for curve in data["curves"]}
    assert len(kinds["finetuning", "loss"]) == 3 and ("pretraining", "loss") not in kinds
    assert all(len(one["points"]) > 1 for one in kinds["finetuning", "loss"])
    assert [entry["setting"] for entry in data["differences"]["settings"]] == ["learning_rate"]
    assert len(data["answers"]) == 4 and len(data["confidence"]) == 3
    row = data["answers"][0]["rows"][0]
    assert row["lines"] and row["candidates"][0]["probability"] >= row["candidates"][-1]["probability"]
    assert row["is_right"] == (row["answer"] in row["right_answers"])


@pytest.mark.slow
def test_folders_can_be_given_one_by_one_and_can_be_moved(runs, tmp_path):
    moved = tmp_path / "moved"
    moved.symlink_to(runs)
    together = report_data(find_evaluations([str(runs)]), "title")
    one_by_one = [str(moved / name) for name in ("finetuned_0", "finetuned_1/evaluation", "other", "london")]
    apart = report_data(find_evaluations(one_by_one), "title")
    assert shown(apart) == shown(together) and len(apart["curves"]) == len(together["curves"])


def shown(data):
    return [{**row, "entries": len(row["entries"])} for row in data["tables"][0]["rows"]]


@pytest.mark.slow
def test_the_page_is_one_file_without_network(runs, tmp_path, capsys):
    main(["report", str(runs), "--output", str(tmp_path / "page.html")])
    assert "open it in a browser" in capsys.readouterr().out
    page = (tmp_path / "page.html").read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!#)""", page) and "@import" not in page and "url(" not in page
    # an earlier report is replaced, and nothing else
    main(["report", str(runs), "--output", str(tmp_path / "page.html")])
    (tmp_path / "mine.html").write_text("<p>mine</p>")
    with pytest.raises(ValueError, match="is a file of another kind"):
        report(PageSettings(runs=[str(runs)], output=str(tmp_path / "mine.html")))


def test_a_text_of_a_run_cannot_become_markup(tmp_path):
    evil = "</script><img src=x onerror=alert(1)><!-- *a* _b_"
    save_json(tmp_path / "evaluation" / "metrics.json", METRICS | {"name": evil, "table": evil, "command": evil})
    row = {"question": evil, "name": evil, "relation": evil, "right_answers": [evil], "answer": evil, "lines": [evil]}
    row |= {"is_right": True, "probability": 0.5, "candidates": [{"answer": evil, "probability": 0.5}]}
    (tmp_path / "evaluation" / "answers.jsonl").write_text((json.dumps(row) + "\n") * 2)
    page = report(PageSettings(runs=[str(tmp_path)], output=str(tmp_path / "page.html"), title=evil)).read_text()
    assert "<img" not in page and "<!--" not in page and page.count("</script>") == 2
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert data["answers"][0]["rows"][0]["question"] == evil


def damaged(tmp_path, **files):
    folder = tmp_path / "run"
    folder.mkdir()
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_text(content)
    return str(folder)


ROW = (
    '{"question": "q", "name": "", "relation": "", "answer": "a", "right_answers": [], "lines": [], "candidates": [], '
)
FAULTS = {
    "no run": ({"notes_txt": "x"}, "is no run: it contains neither run.json nor metrics.json"),
    "no JSON": ({"metrics_json": "{"}, r"metrics.json is damaged: it is not JSON"),
    "no metrics": ({"metrics_json": "{}"}, "metrics.json: 'accuracy', 'correct', 'total' is missing"),
    "a wrong type": ({"metrics_json": json.dumps(METRICS | {"slices": [1]})}, "'slices' must be of type dict"),
    "odd slices": ({"metrics_json": json.dumps(METRICS | {"slices": {"relation": 3}})}, "slices"),
    "an odd command": ({"metrics_json": json.dumps(METRICS | {"training_command": "x"})}, "must be of type list"),
    "a damaged run": ({"run_json": "{"}, "run.json is damaged"),
    "answers of others": ({"metrics_json": json.dumps(METRICS), "answers_jsonl": ""}, "has 0 answers, but"),
    "no answers": ({"metrics_json": json.dumps(METRICS), "answers_jsonl": "{\n"}, "line 1: this is not JSON"),
    "an answer without a key": (
        {"metrics_json": json.dumps(METRICS), "answers_jsonl": ROW + '"probability": 1}\n'},
        "line 1: 'is_right' is missing",
    ),
    "half a character": (
        {
            "metrics_json": json.dumps(METRICS),
            "answers_jsonl": ROW.replace("q", "\\ud800") + '"is_right": true, "probability": 1}\n',
        },
        "line 1",
    ),
    "no number": (
        {"metrics_json": json.dumps(METRICS), "answers_jsonl": ROW + '"is_right": true, "probability": NaN}\n'},
        "'probability' is missing or damaged",
    ),
    "odd candidates": (
        {
            "metrics_json": json.dumps(METRICS),
            "answers_jsonl": ROW.replace('"candidates": []', '"candidates": [3]')
            + '"is_right": true, "probability": 1}\n',
        },
        "line 1: 'candidates'",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_run_is_one_clear_line(fault, tmp_path, capsys):
    files, message = FAULTS[fault]
    with pytest.raises(SystemExit) as exit_status:
        main(["report", damaged(tmp_path, **files), "--output", str(tmp_path / "page.html")])
    error = capsys.readouterr().err
    assert exit_status.value.code == 2 and re.search(message, error) and "Traceback" not in error
    assert not Path(tmp_path / "page.html").exists()


def test_a_folder_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="nowhere: there is no such folder"):
        report(PageSettings(runs=["nowhere"]))
    with pytest.raises(ValueError, match="runs is empty"):
        PageSettings(runs=[])


@pytest.mark.slow
def test_a_run_without_evaluation_says_how_to_evaluate_it(finetuned, tmp_path):
    with pytest.raises(ValueError, match="has no evaluation: run `birthgpt evaluate --model_name_or_path"):
        report(PageSettings(runs=[str(finetuned)], output=str(tmp_path / "page.html")))


def test_a_baseline_has_no_competing_answers():
    given = {"question_file": "x", "output_dir": "y", "baseline": "London", "competing_answers": 3}
    with pytest.raises(ValueError, match="competing_answers are those of a model"):
        make_settings(EvaluateSettings, **given)
