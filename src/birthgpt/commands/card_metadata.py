"""The metadata of a model card, in the form that the Hub accepts, and the figures of an evaluation in it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from birthgpt.commands.report_answers import training_cost
from birthgpt.data.question_rows import RELATION
from birthgpt.evaluation.metrics import read_metrics
from birthgpt.settings import checked, setting

METRICS = {"exact_match": "accuracy", "f1": "f1"}
"""The name of each metric on the Hub, and in `metrics.json`."""

MOST_RELATIONS = 20
"""The relations in a card: those with the most questions."""

IS_VALID = {
    "license": re.compile(r"[a-z0-9][a-z0-9.+-]*"),
    "language": re.compile(r"[a-z]{2,3}|code|multilingual"),
    "base_model": re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}"),
    "training_datasets": re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}"),
}
EXAMPLES = {
    "license": "mit, cc-by-4.0 or other: a name of the Hub in lower case",
    "language": "en: a code of ISO 639, of two or three letters",
    "base_model": "user/name on the Hub",
    "training_datasets": "user/name on the Hub",
}


@checked
@dataclass(kw_only=True)
class CardSettings:
    """What the card of a model tells the Hub."""

    license: str | None = setting(None, "licence of the weights, by its name on the Hub, such as mit")
    language: list[str] | None = setting(None, "languages of the corpus, such as en")
    base_model: str | None = setting(None, "model on the Hub that this one was finetuned from")
    training_datasets: list[str] | None = setting(None, "datasets on the Hub that it was trained on")
    metrics_file: str | None = setting(None, "metrics.json of an evaluation of this checkpoint, for its figures")

    def validate_card(self):
        """The Hub refuses other names; a place on this machine is not one."""
        for name, pattern in IS_VALID.items():
            value = getattr(self, name)
            for part in [] if value is None else value if isinstance(value, list) else [value]:
                if not pattern.fullmatch(part):
                    raise ValueError(f"{name}={part!r} would be refused by the Hub: give {EXAMPLES[name]}")


def evaluation_of(settings: CardSettings, checkpoint: str) -> dict[str, Any] | None:
    """The metrics of `metrics_file`; None if it is not given.

    Raises:
        ValueError: the file cannot be read, has no accuracy, or is an evaluation of another checkpoint.
    """
    if settings.metrics_file is None:
        return None
    metrics = read_metrics(Path(settings.metrics_file), required=("accuracy", "total", "table"))
    cost = training_cost(checkpoint)
    other = [name for name in ("tokens", "flops", "seconds") if cost and metrics.get(name) != cost[name]]
    if other:
        raise ValueError(
            f"metrics_file={settings.metrics_file} is of another checkpoint: its {other[0]} of training are "
            f"{metrics.get(other[0])}, and those of {checkpoint} are {cost[other[0]]}"
        )
    return metrics


def card_metadata(
    settings: CardSettings, title: str, metrics: Mapping[str, Any] | None, pipeline_tag: str = "text-generation"
) -> ModelCardData:
    """The metadata; with metrics, their figures are the `model-index`, in total and by relation."""
    results = [] if metrics is None else list(_results(settings, metrics))
    return ModelCardData(
        library_name="transformers",
        pipeline_tag=pipeline_tag,
        tags=["birthgpt"],
        license=settings.license,
        language=settings.language,
        base_model=settings.base_model,
        datasets=settings.training_datasets,
        metrics=None if metrics is None else list(METRICS),
        model_name=title.rpartition("/")[2] or title,
        eval_results=results or None,
    )


def relations_of(metrics: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The accuracy in each relation with questions, of many only the largest."""
    buckets = (metrics.get("slices") or {}).get(RELATION) or {}
    asked = {name: counts for name, counts in buckets.items() if counts.get("count")}
    largest = sorted(asked, key=lambda name: -asked[name]["count"])[:MOST_RELATIONS]
    return {name: asked[name] for name in asked if name in largest}


def _results(settings: CardSettings, metrics: Mapping[str, Any]) -> Sequence[EvalResult]:
    common: dict[str, Any] = {
        "task_type": "question-answering",
        "task_name": "Questions about people",
        "dataset_type": "questions",
        "dataset_name": metrics["table"],
    }
    found = [
        EvalResult(**common, metric_type=name, metric_value=metrics[key])
        for name, key in METRICS.items()
        if metrics.get(key) is not None
    ]
    for relation, counts in relations_of(metrics).items():
        value = counts["accuracy"]
        found.append(EvalResult(**common, dataset_config=relation, metric_type="exact_match", metric_value=value))
    return found
