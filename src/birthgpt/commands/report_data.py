"""What a report shows, as JSON: leaderboards, curves, slices, confidence, answers and configurations."""

import datetime
from collections.abc import Hashable, Mapping, Sequence
from importlib.resources import files
from statistics import fmean
from typing import Any

from birthgpt import __version__
from birthgpt.commands.answer_rows import is_number
from birthgpt.commands.model_card import SETTINGS_OF
from birthgpt.commands.report_runs import Evaluation
from birthgpt.data.splits import person_of
from birthgpt.evaluation.leaderboard import COSTS, Entry, Row, leaderboard
from birthgpt.settings import declared_settings
from birthgpt.utils.strict_yaml import load_yaml

NOT_CURVES = {"step", "learning_rate", "tokens_per_second", "losses", "learning_rates"}
"""What the history of a run has beside its curves."""

OF_ONE_SEED = {"seed", "data_seed", "model_name_or_path", "seeds", "learning_rates"}
"""Settings that do not make another configuration, beside those that a resumed run may change."""

LONGEST_CURVE = 400
"""Points of a curve; of a longer one, every n-th point is kept."""


def report_data(evaluations: Sequence[Evaluation], title: str) -> dict[str, Any]:
    """Everything that the page shows.

    Returns:
        `title`, `date`, `version`; `tables`: a list of `key`, `total`, `rows` and `references`, one a set of questions;
        `configurations`: `id`, `name` and `attention`, which all other parts refer to by `id`; `curves`; `slices`;
        `confidence`; `answers`; `differences`.
    """
    tables, owner = _tables(evaluations)
    rows = [row for table in tables for row in table["rows"]]
    shown = [row for row in rows if not row["is_baseline"]]
    return {
        "title": title,
        "date": datetime.date.today().isoformat(),
        "version": __version__,
        "tables": tables,
        "configurations": [{key: row[key] for key in ("id", "name", "attention", "is_baseline")} for row in rows],
        "curves": curves(evaluations, owner),
        "slices": [
            {"table": table["key"], "rows": [_slices(evaluations, row) for row in table["rows"]]} for table in tables
        ],
        "confidence": [found for found in map(_confidence, evaluations, owner) if found is not None],
        "answers": [found for found in map(_answers, evaluations, owner) if found is not None],
        "differences": differences([(row, evaluations[row["entries"][0]].records) for row in shown]),
    }


def _tables(evaluations: Sequence[Evaluation]) -> tuple[list[dict[str, Any]], list[int]]:
    """The leaderboard of each set of questions, and the id of the row of each evaluation."""
    by_table: dict[tuple, list[int]] = {}
    for index, key in enumerate(_question_sets(evaluations)):
        by_table.setdefault(key, []).append(index)
    owner, tables, number = [0] * len(evaluations), [], 0
    for (name, *_), indices in by_table.items():
        rows = []
        for row in leaderboard([_entry(evaluations[index]) for index in indices]):
            entries = [indices[place] for place in row.entries]
            for entry in entries:
                owner[entry] = number
            rows.append({"id": number, **_shown(row, [evaluations[entry] for entry in entries]), "entries": entries})
            number += 1
        hashed = [index for index in indices if evaluations[index].metrics.get("questions_sha256")]
        metrics = evaluations[[*hashed, *indices][0]].metrics
        tables.append({"key": name, "total": metrics["total"], "rows": rows, "references": _references(name, metrics)})
    return tables, owner


def _question_sets(evaluations: Sequence[Evaluation]) -> list[tuple]:
    """What tells the questions of each evaluation apart: name, number, and their SHA-256 if there are several.

    Evaluations of earlier versions have no SHA-256.
    """
    asked = [(evaluation.table, evaluation.metrics["total"]) for evaluation in evaluations]
    hashes = [evaluation.metrics.get("questions_sha256") for evaluation in evaluations]
    of_each: dict[tuple, set] = {}
    for key, sha256 in zip(asked, hashes, strict=True):
        of_each.setdefault(key, set()).update({sha256} - {None})
    return [(*key, sha256 if len(of_each[key]) > 1 else None) for key, sha256 in zip(asked, hashes, strict=True)]


def configuration_of(evaluation: Evaluation) -> Hashable:
    """What is equal for all seeds of a configuration: the settings of all its runs; without runs, the name."""
    if not evaluation.records:
        return evaluation.name
    return tuple(
        (record["kind"], tuple(sorted((name, repr(value)) for name, value in shaping_settings(record).items())))
        for record in evaluation.records
    )


def shaping_settings(record: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run that shape its result, without its seed and the place of the checkpoint before it."""
    declared = declared_settings(SETTINGS_OF[record["kind"]])
    return {
        name: value
        for name, value in record["settings"].items()
        if name not in OF_ONE_SEED and not (name in declared and declared[name].metadata["free_on_resume"])
    }


def _entry(evaluation: Evaluation) -> Entry:
    metrics, answers = evaluation.metrics, evaluation.answers
    seeds = [metrics.get(f"{kind}_seed") for kind in ("pretraining", "finetuning")]
    return Entry(
        evaluation.name,
        configuration_of(evaluation),
        tuple(seed for seed in seeds if seed is not None),
        metrics["accuracy"],
        metrics["total"],
        {key: metrics[key] for key in COSTS if metrics.get(key) is not None},
        None if answers is None else [row["is_right"] for row in answers],
        () if answers is None else tuple(map(person_of, answers)),
    )


def _shown(row: Row, evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    first = evaluations[0]
    settings = first.records[-1]["settings"] if first.records else {}
    attention = settings.get("attention_type")
    seeds = [[evaluation.metrics.get(f"{kind}_seed") for kind in SETTINGS_OF] for evaluation in evaluations]
    return {
        "name": row.name,
        "attention": ", ".join(dict.fromkeys(attention)) if isinstance(attention, list) else attention or "",
        "accuracy": row.accuracy,
        "deviation": row.deviation,
        "low": row.low,
        "high": row.high,
        "total": row.total,
        "is_baseline": first.is_baseline,
        "seeds": ["/".join(str(seed) for seed in dict.fromkeys(pair) if seed is not None) for pair in seeds],
        "points": [[evaluation.metrics.get("flops"), evaluation.metrics["accuracy"]] for evaluation in evaluations],
        "commands": _commands(evaluations),
        "hardware": first.metrics.get("hardware") or "",
        "date": first.metrics.get("date") or "",
        **{key: row.cost.get(key) for key in COSTS},
    }


def _commands(evaluations: Sequence[Evaluation]) -> list[str]:
    """The commands of the first seed in the order in which they were run, each once."""
    metrics = evaluations[0].metrics
    given = [*(metrics.get("training_command") or []), metrics.get("command")]
    return list(dict.fromkeys(command for command in given if isinstance(command, str)))


def _references(table: str, metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The known lines for a set of questions."""
    known = load_yaml(files("birthgpt.report").joinpath("references.yaml").read_text(encoding="utf-8"))
    for entry in known:
        asked = metrics.get("questions_sha256")
        is_same = entry["table"] == table if asked is None else entry["questions_sha256"] == asked
        if is_same and entry["total"] == metrics["total"]:
            return entry["lines"]
    return []


def curves(evaluations: Sequence[Evaluation], owner: Sequence[int]) -> list[dict[str, Any]]:
    """The curves of all runs: `kind`, `metric`, and `series`, a list of `id`, `seed` and `points` (step, value)."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    shown = set()
    for evaluation, number in zip(evaluations, owner, strict=True):
        for record in evaluation.records:
            history = [entry for entry in record.get("history") or [] if isinstance(entry, dict)]
            place = (number, record["kind"], record["command"], record["seed"], record["settings"].get("output_dir"))
            if place in shown:
                continue
            shown.add(place)
            for metric, points in _points(history).items():
                series = {"id": number, "seed": record["seed"], "points": points}
                found.setdefault((record["kind"], metric), []).append(series)
    kinds = list(SETTINGS_OF)
    return [
        {"kind": kind, "metric": metric, "series": series}
        for (kind, metric), series in sorted(found.items(), key=lambda item: (kinds.index(item[0][0]), item[0][1]))
        # a run that has logged once has no curve
        if any(len(one["points"]) > 1 for one in series)
    ]


def _points(history: Sequence[Mapping[str, Any]]) -> dict[str, list[list[float]]]:
    found: dict[str, list[list[float]]] = {}
    for entry in history:
        for metric, value in entry.items():
            if metric not in NOT_CURVES and is_number(value) and isinstance(entry.get("step"), int):
                found.setdefault(metric, []).append([entry["step"], value])
    return {metric: _thinned(points) for metric, points in found.items()}


def _thinned(points: list[list[float]]) -> list[list[float]]:
    every = -(-len(points) // LONGEST_CURVE)
    # the last point is the result
    return points[:-1:every] + points[-1:]


def _slices(evaluations: Sequence[Evaluation], row: Mapping[str, Any]) -> dict[str, Any]:
    """The mean accuracy of a row in each bucket of each slice."""
    of_each = [evaluations[entry].metrics.get("slices") or {} for entry in row["entries"]]
    buckets: dict[str, dict[str, dict[str, Any]]] = {}
    for kind, found in of_each[0].items():
        for bucket in found:
            counts = [slices[kind][bucket] for slices in of_each if bucket in slices.get(kind, {})]
            known = [entry["accuracy"] for entry in counts if entry.get("accuracy") is not None]
            if known:
                buckets.setdefault(kind, {})[bucket] = {"accuracy": fmean(known), "count": counts[0]["count"]}
    return {"id": row["id"], "kinds": buckets}


def _confidence(evaluation: Evaluation, number: int) -> dict[str, Any] | None:
    """How certain each answer is: p(right) of a calibration, or else the probability of the answer."""
    if evaluation.answers is None:
        return None
    right = [row["is_right"] for row in evaluation.answers]
    common = {"id": number, "name": _label(evaluation), "right": right}
    if evaluation.judged is not None:
        found = evaluation.metrics["confidence"]
        scores = [row["right"] for row in evaluation.judged]
        limits = {key: found.get(key) for key in ("max_risk", "threshold")}
        return {**common, "scores": scores, "is_calibrated": True, **limits}
    scores = [row["probability"] for row in evaluation.answers]
    if None in scores:
        return None
    return {**common, "scores": scores, "is_calibrated": False, "max_risk": None, "threshold": None}


def _answers(evaluation: Evaluation, number: int) -> dict[str, Any] | None:
    if evaluation.answers is None:
        return None
    judged: Sequence[Mapping[str, Any]] = evaluation.judged or [{}] * len(evaluation.answers)
    rows = [
        {**answer, "verdict": verdict.get("verdict"), "p_right": verdict.get("right")}
        for answer, verdict in zip(evaluation.answers, judged, strict=True)
    ]
    return {"id": number, "name": _label(evaluation), "rows": rows}


def _label(evaluation: Evaluation) -> str:
    """The name, with the seed if there is one."""
    seed = evaluation.metrics.get("finetuning_seed")
    return evaluation.name if seed is None else f"{evaluation.name}, seed {seed}"


def differences(rows: Sequence[tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]]) -> dict[str, Any]:
    """The settings in which configurations differ.

    Args:
        rows: each row of the leaderboards with the `run.json` of its runs.

    Returns:
        `names`, and `settings`: a list of `kind`, `setting` and `values`, one a name; None where a run has no such
        setting.
    """
    known = [(row, records) for row, records in rows if records]
    values: dict[tuple[str, str], list[Any]] = {}
    for place, (_, records) in enumerate(known):
        for record in records:
            for name, value in shaping_settings(record).items():
                values.setdefault((record["kind"], name), [None] * len(known))[place] = value
    kinds = list(SETTINGS_OF)
    return {
        "names": [row["name"] for row, _ in known],
        "settings": [
            {"kind": kind, "setting": name, "values": [None if value is None else _text(value) for value in of_each]}
            for (kind, name), of_each in sorted(values.items(), key=lambda item: (kinds.index(item[0][0]), item[0][1]))
            if len(set(map(repr, of_each))) > 1
        ],
    }


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
