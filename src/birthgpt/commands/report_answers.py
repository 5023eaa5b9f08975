"""Write answers to `predictions.txt` and `answers.jsonl`, and metrics with the training cost to `metrics.json`."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
from accelerate import Accelerator

from birthgpt.commands.answer_rows import ANSWERS, answer_rows, as_lines, fingerprint_of_questions, path_from
from birthgpt.commands.run_metadata import read_run_metadata
from birthgpt.data.corpus import ColumnSettings, lines_by_name
from birthgpt.data.names import NameFinder
from birthgpt.data.question_rows import RELATION, WORDING
from birthgpt.data.questions import answers_of, load_questions, warn_odd_questions
from birthgpt.evaluation.answering import Answer
from birthgpt.evaluation.metrics import WORDING_IN_TRAIN, compute_metrics, read_metrics
from birthgpt.settings import checked, setting
from birthgpt.training.processes import decided_by_main
from birthgpt.utils.environment import environment_info
from birthgpt.utils.files import check_output_file, save_json, write_text
from birthgpt.utils.tables import LONGEST_TABLE, limited_table

logger = logging.getLogger(__name__)

PREDICTIONS = "predictions.txt"
METRICS = "metrics.json"

SHOWN_SLICES = {RELATION: LONGEST_TABLE, WORDING_IN_TRAIN: LONGEST_TABLE, WORDING: 20}
"""The slices that are printed, and the most rows of each."""


@checked
@dataclass(kw_only=True)
class ReportSettings(ColumnSettings):
    """The questions, what is known about them, and where answers and metrics are written."""

    question_file: str = setting(help="questions, with or without answers")
    output_dir: str = setting(help="folder for predictions.txt, answers.jsonl and metrics.json")
    train_file: str | None = setting(None, "train questions, for baselines and slices by seen answers")
    corpus_file: str | None = setting(None, "biographies, for slices by the position of the answer in its line")
    name: str | None = setting(None, "name of this row in tables; the folder of the checkpoint if not given")
    table: str | None = setting(None, "table of this row; the name of the question file if not given")
    note: str | None = setting(None, "a remark for the reader of the table")
    order: int | None = setting(None, "place of this row in its table; after the others if not given")
    results_file: str | None = setting(None, "also write the metrics to this file, for RESULTS.md")

    def validate_output_dir(self):
        """The output is a folder."""
        if Path(self.output_dir).is_file():
            raise ValueError(f"output_dir={self.output_dir} is a file: give a folder")


@dataclass
class Questions:
    """The questions of a report, and the data for its slices."""

    asked: datasets.Dataset
    train: datasets.Dataset | None
    lines: dict[str, list[str]] | None

    @classmethod
    def load(cls, settings: ReportSettings) -> "Questions":
        """Read the files that the settings name."""
        lines = lines_by_name(settings.read_lines(settings.corpus_file)) if settings.corpus_file else None
        names = NameFinder(lines) if lines is not None else None
        asked = load_questions(settings.question_file, require_answers=False, names=names, with_wordings=True)
        train = None
        if settings.train_file:
            train = load_questions(settings.train_file, names=names, with_wordings=True)
        warn_odd_questions(settings.question_file, asked, lines_by_name=lines, train=train or ())
        return cls(asked, train, lines)

    @property
    def train_answers(self) -> list[str]:
        """The right answers of all train questions."""
        return [answer for row in self.train or () for answer in answers_of(row)]


def check_outputs(settings: ReportSettings, accelerator: Accelerator, *names: str) -> None:
    """Raise ValueError, on all processes and before the answers, for an output that cannot be written.

    Args:
        names: files in `output_dir` beside those of every evaluation.
    """
    inputs = {name: getattr(settings, name) for name in ("question_file", "train_file", "corpus_file")}

    def check() -> None:
        for name in (PREDICTIONS, ANSWERS, *names):
            check_output_file(Path(settings.output_dir, name), inputs)
        check_output_file(Path(settings.output_dir, METRICS), inputs, is_own=contains_metrics)
        if settings.results_file is not None:
            check_output_file(settings.results_file, inputs, is_own=contains_metrics)

    decided_by_main(check, accelerator)


def contains_metrics(file: Path) -> bool:
    """Whether a file is one of metrics, which an evaluation may replace."""
    try:
        return bool(read_metrics(file, required=("accuracy", "correct", "total")))
    except ValueError:
        return False


def report_answers(
    settings: ReportSettings,
    questions: Questions,
    answers: list[Answer],
    *,
    name: str,
    cost: dict,
    with_probabilities: bool = True,
    checkpoint: str | None = None,
    candidates: Sequence[Sequence[Answer]] | None = None,
    more: Mapping | None = None,
) -> dict | None:
    """Write `predictions.txt`, one answer per line; if the questions have answers, also `answers.jsonl` and metrics.

    Args:
        name: the name of the row in tables, if the settings have none.
        cost: the training cost, as `training_cost` returns it.
        with_probabilities: whether the answers have probabilities; False for baselines.
        checkpoint: the folder or the name of the model that has answered, if it is one.
        candidates: the answers of all beams to each question.
        more: further metrics.

    Returns:
        The metrics: those of `compute_metrics` and `more`, `checkpoint` (its path from `output_dir`),
        `questions_sha256`, the environment and the cost; None without right answers.
    """
    output = Path(settings.output_dir)
    # one answer per line, even if an answer contains line breaks
    lines = [" ".join(answer.shown.splitlines()) + "\n" for answer in answers]
    write_text(output / PREDICTIONS, "".join(lines))
    if questions.asked["answer"][0] is None:
        logger.info("%s has no answers: only %s is written", settings.question_file, output / PREDICTIONS)
        return None
    texts = [answer.text for answer in answers]
    log_probabilities = [answer.log_probability for answer in answers] if with_probabilities else None
    unknown = [answer.is_unknown for answer in answers]
    metrics = {
        "name": settings.name or name,
        "note": settings.note,
        "order": settings.order,
        "table": settings.table or Path(settings.question_file).stem,
        **compute_metrics(
            questions.asked,
            texts,
            questions.train_answers,
            questions.lines,
            log_probabilities,
            train_questions=questions.train or (),
            unknown=unknown,
        ),
        **(more or {}),
        "checkpoint": path_from(output, checkpoint),
        "questions_sha256": fingerprint_of_questions(questions.asked["question"][:]),
        **environment_info(),
        **cost,
    }
    rows = answer_rows(
        questions.asked, answers, questions.lines, with_probabilities=with_probabilities, candidates=candidates
    )
    write_text(output / ANSWERS, as_lines(rows))
    save_json(output / METRICS, metrics)
    if settings.results_file:
        save_json(settings.results_file, metrics)
    return metrics


def training_cost(checkpoint: str | None) -> dict:
    """The training cost of a checkpoint, from the `run.json` of its run and of the runs before it.

    Returns:
        `tokens`, `flops` and `seconds`, summed over all runs; `tokens_per_second` and `target_ratio` (0..1) of all
        runs together; `parameters` of the checkpoint; `pretraining_seed` and `finetuning_seed` of the last such run,
        if there is one; `training_command`, the commands in the order of the runs. An empty dict if the folder has no
        `run.json`.
    """
    records = chain_of_runs(checkpoint)
    if not records:
        return {}
    total = {key: sum(record[key] for record in records) for key in ("tokens", "flops", "seconds")}
    return {
        "parameters": records[-1]["parameters"],
        **total,
        "tokens_per_second": total["tokens"] / total["seconds"],
        "target_ratio": sum(record["target_ratio"] * record["tokens"] for record in records) / total["tokens"],
        **{f"{record['kind']}_seed": record["seed"] for record in records},
        "training_command": [record["command"] for record in records],
    }


def chain_of_runs(checkpoint: str | None) -> list[dict]:
    """The `run.json` of each run that led to a checkpoint, the first run first."""
    records: list[dict] = []
    visited = set()
    while checkpoint is not None and (record := read_run_metadata(checkpoint)) is not None:
        # a later run may have overwritten the folder of an earlier one, so the chain may have a cycle
        if (place := Path(checkpoint).resolve()) in visited:
            break
        visited.add(place)
        records.insert(0, record)
        checkpoint = record["settings"].get("model_name_or_path")
    return records


def show_accuracy(metrics: dict | None) -> None:
    """Print how many answers are right, the measures of SQuAD, and tables by relation and by wording."""
    if metrics is None:
        return
    print(
        f"{metrics['name']}: {metrics['correct']} of {metrics['total']} right, {metrics['accuracy']:.1%}; "
        f"normalized match {metrics['normalized_match']:.1%}, F1 {metrics['f1']:.1%}"
    )
    if unknown := metrics["unknown"]:
        answered = metrics["accuracy_of_answered"]
        rest = "" if answered is None else f"; {answered:.1%} of the others are right"
        print(f"{unknown} of {metrics['total']} ({metrics['unknown_ratio']:.1%}) are answered unknown{rest}")
    for kind, limit in SHOWN_SLICES.items():
        if buckets := metrics["slices"].get(kind):
            print("\n" + slice_table(kind, buckets, limit))


def slice_table(kind: str, buckets: Mapping[str, Mapping], limit: int = LONGEST_TABLE) -> str:
    """A table of the accuracy in each bucket of a slice; of many, only the `limit` with the most questions."""
    rows = [{kind: bucket, **counts} for bucket, counts in buckets.items()]
    return limited_table(rows, [kind, "accuracy", "correct", "count"], limit=limit, rest=f" in {METRICS}")
