"""The card of a model: metadata that the Hub accepts, the figures of the evaluation, and markup as text."""

import json

import pytest
import yaml
from card_schema import metadata_errors
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM

from birthgpt.commands.card_metadata import CardSettings
from birthgpt.commands.evaluate import EvaluateSettings, evaluate
from birthgpt.commands.model_card import model_card
from birthgpt.commands.push import PushSettings, export
from birthgpt.settings import make_settings

GIVEN = {
    "license": "cc-by-sa-4.0",
    # in YAML, no is false
    "language": ["en", "no"],
    "base_model": "you/pretrained",
    "training_datasets": ["you/people"],
}
BUCKETS = {
    "born": {"accuracy": 0.75, "correct": 3, "count": 4},
    "<b>died</b> | x": {"accuracy": 0.5, "correct": 1, "count": 2},
}
METRICS = {
    **{"accuracy": 4 / 6, "correct": 4, "total": 6, "f1": 0.7, "table": "dev", "unknown": 1},
    "slices": {"relation": BUCKETS | {"empty": {"accuracy": None, "correct": 0, "count": 0}}},
}


@pytest.fixture
def model(finetuned):
    return AutoModelForCausalLM.from_pretrained(finetuned)


def test_the_metadata_is_what_the_hub_accepts(model):
    for settings, metrics in [(None, None), (CardSettings(**GIVEN), None), (CardSettings(**GIVEN), METRICS)]:
        text = model_card(model, None, "you/mine", settings, metrics=metrics)
        assert metadata_errors(yaml.safe_load(text.split("---\n", 2)[1])) == []
        data = ModelCard(text).data
        if settings is not None:
            assert (data.license, data.language, data.base_model) == ("cc-by-sa-4.0", ["en", "no"], "you/pretrained")
            assert data.datasets == ["you/people"]


def test_the_figures_of_the_evaluation_are_in_metadata_and_text(model):
    text = model_card(model, None, "you/mine", metrics=METRICS)
    data = ModelCard(text).data
    found = {(result.metric_type, result.dataset_config): result.metric_value for result in data.eval_results}
    by_relation = {("exact_match", relation): counts["accuracy"] for relation, counts in BUCKETS.items()}
    assert found == {("exact_match", None): 4 / 6, ("f1", None): 0.7, **by_relation}
    assert data.model_name == "mine" and data.metrics == ["exact_match", "f1"]
    assert "Of 6 questions (dev), 66.7% are answered exactly right; F1 is 70.0%. 1 are answered *unknown*" in text
    assert "| born | 75.0 | 3 | 4 |" in text and "empty" not in text


def test_names_of_relations_are_shown_as_text(model):
    markdown = pytest.importorskip("markdown_it").MarkdownIt().enable("table")
    tokens = markdown.parse(model_card(model, None, "you/mine", metrics=METRICS).split("---\n", 2)[2])
    cells = ["".join(part.content for part in token.children) for token in tokens if token.type == "inline"]
    assert "<b>died</b> | x" in cells
    assert not any(token.type.startswith("html") for token in tokens)


def test_a_card_tells_of_use_limits_and_calibration(model):
    text = model_card(model, None, "you/mine")
    assert "## Use" in text and "## Limits" in text and "calibration" not in text and "## Evaluation" not in text
    confidence = {"max_risk": 0.05, "recalled": 0.6, "risk": {"value": 0.02}}
    text = model_card(model, None, "you/mine", metrics=METRICS | {"confidence": confidence}, is_calibrated=True)
    assert "## Calibration" in text
    assert "with `--max_risk 0.05`, 60.0% of the answers are recalled, and 2.0% of these are wrong" in text


def test_a_card_has_the_figures_of_the_evaluation_of_its_checkpoint_and_of_no_other(
    finetuned, pretrained, people_files, tmp_path
):
    places = {"question_file": str(people_files / "birth_dev.tsv"), "output_dir": str(tmp_path / "answers")}
    metrics = evaluate(make_settings(EvaluateSettings, model_name_or_path=str(finetuned), max_new_tokens=4, **places))
    metrics_file = str(tmp_path / "answers" / "metrics.json")
    push = {"output_dir": str(tmp_path / "export"), "metrics_file": metrics_file, "license": "mit"}
    folder = export(PushSettings(model_name_or_path=str(finetuned), **push))
    text = (folder / "README.md").read_text()
    data = ModelCard(text).data
    assert metadata_errors(data.to_dict()) == [] and data.license == "mit"
    assert data.eval_results[0].metric_value == metrics["accuracy"]
    runs = [json.loads((place / "run.json").read_text()) for place in (pretrained, finetuned)]
    assert f"- cost of all 2 runs: {sum(run['tokens'] for run in runs):,} tokens" in text
    with pytest.raises(ValueError, match=r"metrics_file=.* is of another checkpoint: its tokens of training are"):
        export(PushSettings(model_name_or_path=str(pretrained), **push | {"output_dir": str(tmp_path / "other")}))
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("name", "value", "advice"),
    [
        ("license", "MIT License", "a name of the Hub in lower case"),
        ("language", ["English"], "a code of ISO 639"),
        ("base_model", "runs/mine/pretrained", "user/name on the Hub"),
        ("base_model", "/home/me/model", "user/name on the Hub"),
        ("training_datasets", ["wiki.txt"], "user/name on the Hub"),
    ],
)
def test_a_name_that_the_hub_refuses_is_refused_before_anything_is_written(name, value, advice):
    with pytest.raises(ValueError, match=f"{name}='.*' would be refused by the Hub: give .*{advice}"):
        CardSettings(**{name: value})


def test_the_hub_names_an_unknown_licence_before_anything_is_uploaded(hub, finetuned, tmp_path):
    push = {"model_name_or_path": str(finetuned), "output_dir": str(tmp_path / "export"), "hub_model_id": "you/mine"}
    with pytest.raises(ValueError, match='Invalid metadata in README.md.*"license" must be one of') as refusal:
        export(PushSettings(**push, license="my-licence"))
    assert "\n" not in str(refusal.value)
    assert hub.repositories["you/mine"].history == ["initial commit"] and not hub.objects
