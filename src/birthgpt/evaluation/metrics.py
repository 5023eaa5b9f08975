"""The metrics of answers: exact match with any right answer, over all questions and over slices of them."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from birthgpt.data.names import relation_of
from birthgpt.data.question_rows import RELATION, WORDING
from birthgpt.data.questions import UNKNOWN_RELATION, answers_of, relation_in, wording_in
from birthgpt.evaluation.squad import f1, normalized_match
from birthgpt.utils.files import read_json
from birthgpt.utils.tables import NUMBER_COLUMNS

if TYPE_CHECKING:
    import evaluate

# upper bounds, in characters and in train questions
_END_BUCKETS = {"0-24": 24, "25-49": 49, "50-74": 74, "75-99": 99, "100-124": 124, "125+": float("inf")}
_FREQUENCY_BUCKETS = {"0": 0, "1": 1, "2-4": 4, "5-9": 9, "10-19": 19, "20+": float("inf")}

_TYPES = {
    **dict.fromkeys(("name", "table", "command", "checkpoint", "questions_sha256", "hardware", "date", "note"), str),
    **dict.fromkeys(("versions", "slices", "confidence"), dict),
    "training_command": list,
}

NOT_IN_LINE, NO_LINE = "not in line", "no line"
WORDING_IN_TRAIN, TRAINED_WORDINGS, NEW_WORDINGS = "wording_in_train", "wordings trained on", "new wordings"


def exact_match(predictions: Sequence[str], references: Sequence[str | Sequence[str]]) -> float:
    """The fraction (0..1) of predictions that equal their reference exactly, except for outer spaces.

    A reference is the right answer, or several right answers of which one is enough.

    Raises:
        ValueError: the lists have different lengths or are empty.
    """
    matches = _matches(predictions, references)
    return sum(matches) / len(matches)


def slices(
    questions: Iterable[Mapping[str, Any]],
    predictions: Sequence[str],
    train_answers: Sequence[str],
    lines_by_name: Mapping[str, str | Sequence[str]] | None = None,
    train_questions: Iterable[Mapping[str, Any]] = (),
) -> dict[str, dict[str, dict]]:
    """The accuracy in slices of the questions.

    Args:
        questions: rows with `question`, `answer` and `name`, and perhaps `answers`, `relation` and `wording`, such as
            a `datasets.Dataset`.
        train_answers: the answers of all train questions, including repetitions.
        lines_by_name: the line or lines of each name. Without it, the slices by position in the line are
            left out.
        train_questions: rows of the same form, whose wordings are trained on.

    Returns:
        `{slice: {bucket: {"accuracy", "correct", "count"}}}` with all buckets of a slice in order; the
        accuracy of an empty bucket is `None`:
        `relation`: what a question asks about (`questions.relation_in`), only if there are several relations;
        `wording`: in which words (`questions.wording_in`), only if a relation has several wordings;
        `wording_in_train`: whether train questions have this wording, only if there are several or new wordings;
        `answer_end`: characters from the start of the line to the end of the answer's first occurrence
        (the minimum over several lines and several answers);
        `answer_in_train`: whether a train question has this answer; `train_frequency`: how many have it (the most
        frequent of several answers).

    Raises:
        ValueError: there are no predictions, not as many as questions, or a question has no answer.
    """
    questions = list(questions)
    references = _references(questions)
    matches = _matches(predictions, references)
    train_counts = Counter(answer.strip() for answer in train_answers)
    frequencies = [max(train_counts[answer] for answer in answers) for answers in references]
    seen = ["seen" if frequency else "unseen" for frequency in frequencies]
    frequency_buckets = [_bucket(frequency, _FREQUENCY_BUCKETS) for frequency in frequencies]
    found = _by_relation(questions, matches) | _by_wording(questions, matches, train_questions)
    by_train = {
        "answer_in_train": _tally(seen, matches, ("seen", "unseen")),
        "train_frequency": _tally(frequency_buckets, matches, _FREQUENCY_BUCKETS),
    }
    if lines_by_name is None:
        return {**found, **by_train}
    ends = [
        # a question without a name has no line; it does not belong to the lines without a name
        _end_bucket(answers, lines_by_name.get(question["name"], ()) if question.get("name") else ())
        for question, answers in zip(questions, references, strict=True)
    ]
    return {**found, "answer_end": _tally(ends, matches, [*_END_BUCKETS, NOT_IN_LINE, NO_LINE]), **by_train}


def compute_metrics(
    questions: Iterable[Mapping[str, Any]],
    predictions: Sequence[str],
    train_answers: Sequence[str],
    lines_by_name: Mapping[str, str | Sequence[str]] | None = None,
    log_probabilities: Sequence[float] | None = None,
    train_questions: Iterable[Mapping[str, Any]] = (),
    unknown: Sequence[bool] | None = None,
) -> dict:
    """All metrics of one evaluation, ready for JSON.

    `accuracy` (0..1), `correct`, `total`, `normalized_match` and `f1` (0..1, those of SQuAD), `mean_log_probability`
    (natural logarithm per answer; `None` if there are none), `unknown` (how many predictions say that the answer is
    unknown), `unknown_ratio` (0..1), `accuracy_of_answered` (0..1, of all others; `None` if there are none) and
    `slices`. Arguments and errors are the same as in `slices`.

    Args:
        unknown: whether each prediction says that the answer is unknown, which is never right.

    Raises:
        ValueError: also if there are not as many log probabilities as predictions, or one is not finite.
    """
    questions = list(questions)
    references = _references(questions)
    matches = _matches(predictions, references)
    unknown = [False] * len(matches) if unknown is None else unknown
    answered = [match for match, is_unknown in zip(matches, unknown, strict=True) if not is_unknown]
    pairs = list(zip(predictions, references, strict=True))
    if log_probabilities is not None and len(log_probabilities) != len(matches):
        raise ValueError(f"{len(log_probabilities)} log probabilities for {len(matches)} predictions")
    for number, log_probability in enumerate(log_probabilities or (), start=1):
        if not math.isfinite(log_probability):
            raise ValueError(f"the log probability of prediction {number} is {log_probability}: it must be finite")
    return {
        "accuracy": sum(matches) / len(matches),
        "correct": sum(matches),
        "total": len(matches),
        "normalized_match": sum(normalized_match(*pair) for pair in pairs) / len(matches),
        "f1": sum(f1(*pair) for pair in pairs) / len(matches),
        "mean_log_probability": None if log_probabilities is None else sum(log_probabilities) / len(matches),
        "unknown": sum(unknown),
        "unknown_ratio": sum(unknown) / len(matches),
        "accuracy_of_answered": sum(answered) / len(answered) if answered else None,
        "slices": slices(questions, predictions, train_answers, lines_by_name, train_questions),
    }


def load_exact_match() -> "evaluate.Metric":
    """`exact_match` as a module of the `evaluate` library, loaded from this package without a network."""
    # imported late: it takes seconds, and only this function needs it
    import evaluate

    return evaluate.load(str(Path(__file__).parent / "exact_match"), keep_in_memory=True)


def read_metrics(path: Path, required: Sequence[str] = ()) -> dict[str, Any]:
    """Read and check a `metrics.json`.

    Raises:
        ValueError: the file is missing or is not JSON; one of the `required` keys is missing or empty; a value has
            the wrong type; `accuracy` is not `correct` / `total`.
    """
    metrics = read_json(path)
    missing = [key for key in required if metrics.get(key) in (None, "")]
    if missing:
        raise ValueError(f"{path}: {', '.join(map(repr, missing))} is missing")
    _check_values(path, metrics)
    return metrics


def _check_values(path: Path, metrics: Mapping[str, Any]) -> None:
    for key, kind in _TYPES.items():
        if metrics.get(key) is not None and not isinstance(metrics[key], kind):
            raise ValueError(f"{path}: {key!r} must be of type {kind.__name__}, not {metrics[key]!r}")
    for key in (*NUMBER_COLUMNS, "order"):
        value = metrics.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(f"{path}: {key!r} must be a number, not {value!r}")
    for key in ("accuracy", "normalized_match", "f1", "target_ratio"):
        if metrics.get(key) is not None and not 0 <= metrics[key] <= 1:
            raise ValueError(f"{path}: {key!r} must be a ratio between 0 and 1, not {metrics[key]!r}")
    accuracy, correct, total = (metrics.get(key) for key in ("accuracy", "correct", "total"))
    if accuracy is None or correct is None or total is None:
        return
    if abs(accuracy * total - correct) > 1e-3:
        raise ValueError(f"{path}: 'accuracy' {accuracy} is not 'correct' {correct} of 'total' {total}")


def _references(questions: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """All right answers to each question."""
    for number, question in enumerate(questions, start=1):
        if not answers_of(question):
            raise ValueError(f"question {number}, {question.get('question')!r}, has no answer")
    return [[answer.strip() for answer in answers_of(question)] for question in questions]


def _matches(predictions: Sequence[str], references: Sequence[str | Sequence[str]]) -> list[bool]:
    if len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions for {len(references)} references")
    if not len(references):
        raise ValueError("no predictions to compare: give at least one")
    answers = [[reference] if isinstance(reference, str) else reference for reference in references]
    return [
        prediction.strip() in [answer.strip() for answer in right]
        for prediction, right in zip(predictions, answers, strict=True)
    ]


def _by_relation(questions: Sequence[Mapping[str, Any]], matches: Sequence[bool]) -> dict[str, dict[str, dict]]:
    """The slice by relation; nothing if there is one relation."""
    relations = [relation_in(question) or UNKNOWN_RELATION for question in questions]
    buckets = list(dict.fromkeys(relations))
    return {RELATION: _tally(relations, matches, buckets)} if len(buckets) > 1 else {}


def _by_wording(
    questions: Sequence[Mapping[str, Any]], matches: Sequence[bool], train: Iterable[Mapping[str, Any]]
) -> dict[str, dict[str, dict]]:
    """The slices by wording, and by whether it is trained on."""
    asked = [(relation_in(question), wording_in(question)) for question in questions]
    known = {(relation, wording) for relation, wording in asked if wording}
    found: dict[str, dict[str, dict]] = {}
    if len(known) > len({relation for relation, _ in known}):
        # two relations may have a wording of the same name
        is_unique = len({wording for _, wording in known}) == len(known)
        labels = [
            (wording if is_unique else f"{relation}: {wording}") if wording else UNKNOWN_RELATION
            for relation, wording in asked
        ]
        found[WORDING] = _tally(labels, matches, dict.fromkeys(labels))
    trained = {wording for row in train for wording in _names_of_wording(row)}
    if not trained:
        return found
    kinds = [
        (TRAINED_WORDINGS if trained & _names_of_wording(question) else NEW_WORDINGS) if wording else UNKNOWN_RELATION
        for question, (_, wording) in zip(questions, asked, strict=True)
    ]
    if len(known) > 1 or NEW_WORDINGS in kinds:
        buckets = [TRAINED_WORDINGS, NEW_WORDINGS, *([UNKNOWN_RELATION] if UNKNOWN_RELATION in kinds else [])]
        found[WORDING_IN_TRAIN] = _tally(kinds, matches, buckets)
    return found


def _names_of_wording(row: Mapping[str, Any]) -> set[tuple[str, str]]:
    """What a wording is known by: the column `wording` within its relation, and the question without its name."""
    names = {(relation_in(row), row[WORDING])} if row.get(WORDING) else set()
    return names | ({("", relation_of(row["question"], row["name"]))} if row.get("name") else set())


def _end_bucket(answers: Sequence[str], lines: str | Sequence[str]) -> str:
    lines = [lines] if isinstance(lines, str) else lines
    if not lines:
        return NO_LINE
    ends = [line.find(answer) + len(answer) for answer in answers for line in lines if answer in line]
    return _bucket(min(ends), _END_BUCKETS) if ends else NOT_IN_LINE


def _bucket(value: int, upper_bounds: Mapping[str, float]) -> str:
    return next(label for label, upper in upper_bounds.items() if value <= upper)


def _tally(labels: Sequence[str], matches: Sequence[bool], buckets: Iterable[str]) -> dict[str, dict]:
    counts = Counter(labels)
    correct = Counter(label for label, match in zip(labels, matches, strict=True) if match)
    return {
        bucket: {
            "accuracy": correct[bucket] / counts[bucket] if counts[bucket] else None,
            "correct": correct[bucket],
            "count": counts[bucket],
        }
        for bucket in buckets
    }
