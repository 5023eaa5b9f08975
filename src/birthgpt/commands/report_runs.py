"""The runs and evaluations of a report, found in folders, and which evaluation is of which run."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from birthgpt.commands.answer_rows import ANSWER_KEYS, ANSWERS, is_number, is_text, read_rows
from birthgpt.commands.confidence_report import CONFIDENCE
from birthgpt.commands.report_answers import METRICS, chain_of_runs, training_cost
from birthgpt.commands.run_metadata import RUN_METADATA, read_run_metadata
from birthgpt.evaluation.metrics import read_metrics

REQUIRED = ("accuracy", "correct", "total")
CONFIDENCE_KEYS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("question", "answer", "verdict"), is_text),
    **dict.fromkeys(("right", "unknown"), is_number),
}


@dataclass(frozen=True)
class Evaluation:
    """An evaluation with its run.

    Args:
        path: its `metrics.json`.
        metrics: the content.
        answers: the rows of `answers.jsonl`; None without it.
        judged: the rows of `confidence.jsonl`, one an answer; None without it.
        records: the `run.json` of each run that led to its checkpoint, the first run first; empty if it is unknown.
    """

    path: Path
    metrics: dict[str, Any]
    answers: list[dict[str, Any]] | None
    judged: list[dict[str, Any]] | None
    records: tuple[dict[str, Any], ...]

    @property
    def name(self) -> str:
        """How it is called in tables."""
        return self.metrics.get("name") or self.path.parent.name

    @property
    def table(self) -> str:
        """The questions that it is about."""
        return self.metrics.get("table") or "questions"

    @property
    def is_baseline(self) -> bool:
        """Whether no training has led to it."""
        return not self.records and not self.metrics.get("training_command")


def find_evaluations(runs: Sequence[str]) -> list[Evaluation]:
    """The evaluations in folders, in their subfolders, and in files of metrics, with the runs that they are of.

    Args:
        runs: folders of runs or of evaluations, folders that contain such folders, or files of metrics.

    Raises:
        ValueError: a path does not exist or is no run; a run has no evaluation; a file is damaged.
    """
    metrics_files: dict[Path, None] = {}
    trained: dict[Path, list[Path]] = {}
    for run in runs:
        path = Path(run)
        found, folders = _files_of(path)
        metrics_files |= dict.fromkeys(found)
        trained[path] = folders
    evaluations, evaluated = [], set()
    for file in metrics_files:
        metrics = read_metrics(file, required=REQUIRED)
        _check_slices(file, metrics.get("slices") or {})
        checkpoint = _checkpoint_of(file, metrics, [folder for folders in trained.values() for folder in folders])
        if checkpoint is not None:
            evaluated.add(checkpoint.resolve())
        evaluations.append(_read(file, metrics, checkpoint))
    for path, folders in trained.items():
        own = [file for file in metrics_files if path.resolve() in file.resolve().parents or file == path]
        # a run may lead to another one that is evaluated
        if not own and not any(_leads_to(folder, evaluated) for folder in folders):
            raise ValueError(
                f"{path} has no evaluation: run `birthgpt evaluate --model_name_or_path {path} --question_file FILE "
                f"--output_dir {path / 'evaluation'}`, or give the folder of its evaluation too"
            )
    return evaluations


def _files_of(path: Path) -> tuple[list[Path], list[Path]]:
    """The files of metrics, and the folders of runs, in a path that was given."""
    if path.is_file():
        return [path], []
    if not path.is_dir():
        raise ValueError(f"{path}: there is no such folder or file: give the folder of a run or of an evaluation")
    metrics, folders = [], []
    # not through links, which may lead back
    for place, names, files in os.walk(path):
        names.sort()
        if METRICS in files:
            metrics.append(Path(place, METRICS))
        if RUN_METADATA in files:
            folders.append(Path(place))
            read_run_metadata(place)
    if not metrics and not folders:
        raise ValueError(f"{path} is no run: it contains neither {RUN_METADATA} nor {METRICS}, nor do its subfolders")
    return metrics, folders


def _checkpoint_of(file: Path, metrics: dict[str, Any], folders: Iterable[Path]) -> Path | None:
    """The folder of the checkpoint of an evaluation: the one that it names, or else the run that it is in."""
    checkpoint = metrics.get("checkpoint")
    if checkpoint:
        named = file.parent / checkpoint
        return named if (named / RUN_METADATA).is_file() else None
    if "checkpoint" in metrics:
        # a baseline, or an ensemble
        return None
    return next((folder for folder in folders if _is_of(metrics, folder, file.parent)), None)


def _is_of(metrics: dict[str, Any], folder: Path, evaluation: Path) -> bool:
    """Whether an evaluation of an earlier version is of a run: it is in its folder, or has its training cost."""
    if folder == evaluation or folder in evaluation.parents:
        return True
    cost = training_cost(str(folder))
    return all(metrics.get(name) == cost[name] for name in ("parameters", "tokens", "flops", "seconds"))


def _check_slices(file: Path, slices: dict[str, Any]) -> None:
    """Raise ValueError unless each slice has buckets, and each bucket a count and an accuracy, which may be None."""
    for name, buckets in slices.items():
        if not isinstance(buckets, dict) or not all(map(_is_bucket, buckets.values())):
            raise ValueError(f"{file}: its slices by {name!r} are damaged: evaluate again")


def _is_bucket(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("count"), int):
        return False
    accuracy = value.get("accuracy")
    return accuracy is None or is_number(accuracy)


def _read(file: Path, metrics: dict[str, Any], checkpoint: Path | None) -> Evaluation:
    answers = judged = None
    if file.name == METRICS and (file.parent / ANSWERS).is_file():
        answers = read_rows(file.parent / ANSWERS, ANSWER_KEYS)
        _check_same(file.parent / ANSWERS, len(answers), metrics["total"])
    if answers is not None and metrics.get("confidence") and (file.parent / CONFIDENCE).is_file():
        judged = read_rows(file.parent / CONFIDENCE, CONFIDENCE_KEYS)
        _check_same(file.parent / CONFIDENCE, len(judged), metrics["total"])
        for number, (answer, verdict) in enumerate(zip(answers, judged, strict=True), start=1):
            if answer["question"] != verdict["question"]:
                raise ValueError(
                    f"{file.parent / CONFIDENCE}, line {number} is about another question than {ANSWERS}: evaluate "
                    "again"
                )
    records = tuple(chain_of_runs(str(checkpoint))) if checkpoint is not None else ()
    return Evaluation(file, metrics, answers, judged, records)


def _check_same(file: Path, rows: int, total: int) -> None:
    if rows != total:
        raise ValueError(f"{file} has {rows} answers, but {METRICS} beside it is about {total}: evaluate again")


def _leads_to(folder: Path, evaluated: set[Path]) -> bool:
    """Whether a checkpoint of an evaluation is a folder, or was trained from it."""
    resolved = folder.resolve()
    for checkpoint in evaluated:
        visited: set[Path] = set()
        place: Path | None = checkpoint
        while place is not None and place not in visited:
            if place == resolved:
                return True
            visited.add(place)
            record = read_run_metadata(place)
            origin = None if record is None else record["settings"].get("model_name_or_path")
            place = Path(origin).resolve() if origin else None
    return False
