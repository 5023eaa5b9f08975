import json
import os
import subprocess
import sys
from pathlib import Path

import datasets
import pytest

import birthgpt.evaluation.metrics
from birthgpt.evaluation.metrics import compute_metrics, exact_match, slices


def make_questions(*answers, name="Ada Bell"):
    return [{"question": f"Where was {name} born?", "answer": answer, "name": name} for answer in answers]


@pytest.mark.parametrize(
    ("prediction", "reference", "ratio"),
    [
        ("Paris", "Paris", 1.0),
        (" Paris\n", "Paris ", 1.0),
        ("New York", "New  York", 0.0),
        ("paris", "Paris", 0.0),
        ("Paris.", "Paris", 0.0),
        ("", "", 1.0),
        # one letter in two spellings: composed, and with a combining accent
        ("Orl\u00e9ans", "Orle\u0301ans", 0.0),
    ],
)
def test_an_exact_match_ignores_outer_spaces_only(prediction, reference, ratio):
    assert exact_match([prediction], [reference]) == ratio


def test_exact_match_is_the_fraction_of_all_predictions():
    assert exact_match(["a", "b", "c", "d"], ["a", "x", "c", "x"]) == 0.5


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [(["a"], ["a", "b"], "1 predictions for 2 references"), ([], [], "no predictions")],
)
def test_exact_match_of_unequal_or_empty_lists_is_an_error(predictions, references, message):
    with pytest.raises(ValueError, match=message):
        exact_match(predictions, references)


# the name at the start is "Ada Bell. ", ten characters
@pytest.mark.parametrize(
    ("line", "bucket"),
    [
        ("Ada Bell. " + "x" * 10 + "Rome", "0-24"),
        ("Ada Bell. " + "x" * 11 + "Rome", "25-49"),
        ("Ada Bell. " + "x" * 35 + "Rome", "25-49"),
        ("Ada Bell. " + "x" * 36 + "Rome", "50-74"),
        ("Ada Bell. " + "x" * 85 + "Rome", "75-99"),
        ("Ada Bell. " + "x" * 86 + "Rome", "100-124"),
        ("Ada Bell. " + "x" * 111 + "Rome", "125+"),
        ("Ada Bell. Rome" + "x" * 200 + "Rome", "0-24"),
        ("Ada Bell. Paris", "not in line"),
        (["x" * 60 + "Rome", "x" * 30 + "Rome", "Paris"], "25-49"),
        (["Paris", "Milan"], "not in line"),
        ([], "no line"),
    ],
)
def test_an_answer_is_placed_by_where_it_first_ends_in_its_line(line, bucket):
    result = slices(make_questions("Rome"), ["Rome"], [], {"Ada Bell": line})
    assert [name for name, tally in result["answer_end"].items() if tally["count"]] == [bucket]


@pytest.mark.parametrize("name", ["Bob Cole", "", None])
def test_a_question_without_a_known_name_has_no_line(name):
    lines_by_name = {"Ada Bell": "Ada Bell. Rome", "": "Rome"}
    result = slices(make_questions("Rome", name=name), ["Rome"], [], lines_by_name)
    assert result["answer_end"]["no line"]["count"] == 1


@pytest.mark.parametrize(
    ("times", "bucket"),
    [
        (0, "0"),
        (1, "1"),
        (2, "2-4"),
        (4, "2-4"),
        (5, "5-9"),
        (9, "5-9"),
        (10, "10-19"),
        (19, "10-19"),
        (20, "20+"),
    ],
)
def test_an_answer_is_placed_by_its_count_among_train_answers(times, bucket):
    result = slices(make_questions("Rome"), ["Rome"], ["Paris"] + [" Rome"] * times)
    assert [name for name, tally in result["train_frequency"].items() if tally["count"]] == [bucket]
    assert result["answer_in_train"]["seen" if times else "unseen"]["count"] == 1


def test_the_buckets_of_each_slice_contain_every_question_once():
    answers = ["Rome", "Paris", "Oslo", "Bern", "Rome"]
    predictions = ["Rome", "Paris", "Rome", "Bern", "Oslo"]
    lines_by_name = {"Ada Bell": "Ada Bell. Rome" + "x" * 50 + "Oslo"}
    result = slices(make_questions(*answers), predictions, ["Rome", "Rome", "Oslo"], lines_by_name)
    assert list(result) == ["answer_end", "answer_in_train", "train_frequency"]
    for buckets in result.values():
        assert sum(tally["count"] for tally in buckets.values()) == 5
        assert sum(tally["correct"] for tally in buckets.values()) == 3
        for tally in buckets.values():
            assert tally["accuracy"] == (tally["correct"] / tally["count"] if tally["count"] else None)
    # Rome (two questions, one right), and Oslo (wrong) are train answers; Paris and Bern (right) are not
    assert result["answer_in_train"]["seen"] == {"accuracy": 1 / 3, "correct": 1, "count": 3}
    assert result["answer_in_train"]["unseen"] == {"accuracy": 1.0, "correct": 2, "count": 2}


def test_without_lines_there_are_no_slices_by_position_in_the_line():
    assert list(slices(make_questions("Rome"), ["Rome"], [])) == ["answer_in_train", "train_frequency"]


@pytest.mark.parametrize("log_probability", [float("nan"), float("-inf")])
def test_a_log_probability_that_is_not_finite_is_refused(log_probability):
    with pytest.raises(ValueError, match="log probability of prediction 2 is (nan|-inf): it must be finite"):
        compute_metrics(make_questions("Rome", "Rome"), ["Rome", "Rome"], [], None, [-1.0, log_probability])


def test_metrics_of_a_dataset_are_plain_json():
    questions = datasets.Dataset.from_list(make_questions("Rome", "Paris", "Oslo"))
    result = compute_metrics(questions, ["Rome", "Rome", "Oslo"], ["Rome"], {"Ada Bell": "Rome"}, [-1.0, -2.0, -6.0])
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert {key: result[key] for key in ("accuracy", "correct", "total", "mean_log_probability")} == {
        "accuracy": 2 / 3,
        "correct": 2,
        "total": 3,
        "mean_log_probability": -3.0,
    }
    assert result["slices"] == slices(questions, ["Rome", "Rome", "Oslo"], ["Rome"], {"Ada Bell": "Rome"})


def test_predictions_without_log_probabilities_have_no_mean():
    assert compute_metrics(make_questions("Rome"), ["Rome"], [])["mean_log_probability"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((make_questions("Rome"), ["Rome", "Oslo"], []), "2 predictions for 1 references"),
        (
            (make_questions("Rome", None), ["Rome", "Oslo"], []),
            "question 2, 'Where was Ada Bell born.', has no answer",
        ),
        ((make_questions("Rome"), ["Rome"], [], None, [-1.0, -2.0]), "2 log probabilities for 1"),
        (([], [], []), "no predictions"),
    ],
)
def test_arguments_that_do_not_fit_together_are_an_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        compute_metrics(*arguments)


@pytest.mark.parametrize(("prediction", "ratio"), [("Roma", 1.0), (" Rome ", 1.0), ("rome", 0.0), ("Rom", 0.0)])
def test_one_of_several_right_answers_is_enough(prediction, ratio):
    assert exact_match([prediction], [["Rome", "Roma"]]) == ratio


def test_several_right_answers_are_placed_by_the_first_in_the_line_and_the_most_frequent_in_training():
    question = {"question": "Home of Ada Bell?", "answer": "Roma", "answers": ["Roma", "Rome"], "name": "Ada Bell"}
    result = compute_metrics([question], ["Rome"], ["Rome"] * 5, {"Ada Bell": "Ada Bell. Rome" + "x" * 60 + "Roma"})
    assert result["accuracy"] == 1
    assert result["slices"]["answer_end"]["0-24"]["count"] == 1
    assert result["slices"]["train_frequency"]["5-9"]["count"] == 1


HOME, JOB = "Home of {name}?", "Job of {name}?"


@pytest.mark.parametrize("column", [{}, {"relation": "home"}])
def test_the_accuracy_by_relation_is_that_of_the_column_or_of_the_question_without_its_name(column):
    questions = [
        {"question": "Home of Ada?", "answer": "Rome", "name": "Ada", **column},
        {"question": "Home of Bo?", "answer": "Oslo", "name": "Bo", **column},
        {"question": "Job of Bo?", "answer": "poet", "name": "Bo"},
        {"question": "Who?", "answer": "Bo", "name": ""},
    ]
    found = slices(questions, ["Rome", "Rome", "poet", "Ada"], [])["relation"]
    assert found == {
        column.get("relation", HOME): {"accuracy": 0.5, "correct": 1, "count": 2},
        JOB: {"accuracy": 1.0, "correct": 1, "count": 1},
        "unknown": {"accuracy": 0.0, "correct": 0, "count": 1},
    }
    assert "relation" not in slices(questions[:2], ["Rome", "Rome"], [])


@pytest.mark.slow
def test_exact_match_loads_as_an_evaluate_module_without_network_or_traces(tmp_path):
    """This test uses a new process, because evaluate reads its settings on import."""
    package = Path(birthgpt.evaluation.metrics.__file__).parent
    program = """if True:
        import json
        from birthgpt.evaluation.metrics import load_exact_match

        metric = load_exact_match()
        errors = []
        for predictions, references in ((["a"], ["a", "b"]), ([], [])):
            try:
                metric.compute(predictions=predictions, references=references)
            except ValueError as error:
                errors.append(str(error))
            metric = load_exact_match()
        share = metric.compute(predictions=[" Rome", "A", "B", "b"], references=["Rome", "A", "B", "B"])
        print(json.dumps([metric.name, sorted(metric.features), share, len(errors)]))
    """
    before = {path: path.stat().st_mtime_ns for path in package.rglob("*")}
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path),
        "PYTHONPATH": str(package.parents[1]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    finished = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout) == [
        "exact_match",
        ["predictions", "references"],
        {"exact_match": 0.75},
        2,
    ]
    assert {path: path.stat().st_mtime_ns for path in package.rglob("*")} == before
