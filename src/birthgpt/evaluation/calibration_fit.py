"""Fit a calibration on held-out people: the regression on one part of them, its thresholds on the other."""

import dataclasses
import importlib.util
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from birthgpt.evaluation.calibration import OUTCOMES, Calibration, features, fingerprint_of
from birthgpt.evaluation.risk import Threshold, tabulate_thresholds
from birthgpt.evaluation.signals import SIGNALS, AnswerSignals, SignalSource

FEWEST_PEOPLE = 20
NUM_THRESHOLDS = 100
STRENGTHS = (0.01, 0.1, 1.0)
"""Inverse strengths of the L2 penalty, of which cross-validation chooses one."""


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """How a calibration is made.

    Args:
        confidence: the probability of the guarantee, over the draw of the people.
        unknown_ratio: the fraction of questions about names that the model never read, which p(right) assumes.
        fit_ratio: the fraction of people for the regression; the others are for the thresholds.
        known_lost: the fraction of known people that may get the verdict *unknown*.
        seed: decides which person is in which part.
    """

    confidence: float = 0.95
    unknown_ratio: float = 0.1
    fit_ratio: float = 0.5
    known_lost: float = 0.01
    seed: int = 0


def check_scikit_learn() -> None:
    """Raise ValueError if scikit-learn is missing: only fitting a calibration needs it."""
    if importlib.util.find_spec("sklearn") is None:
        raise ValueError("calibrate needs scikit-learn: pip install 'birthgpt[confidence]'")


def fit_calibration(
    source: SignalSource,
    signals: Sequence[AnswerSignals],
    right: Sequence[bool],
    people: Sequence[Hashable],
    invented: Sequence[AnswerSignals] = (),
    settings: FitSettings | None = None,
) -> Calibration:
    """Fit p(right), p(wrong) and p(unknown), and tabulate thresholds on people that the regression has not seen.

    Args:
        source: what the signals were computed from.
        signals: the signals of the answers about held-out people.
        right: whether each answer is right.
        people: whom each question is about.
        invented: the signals of answers about names that the model never read.

    Raises:
        ValueError: there are too few people, all answers are right or all are wrong, or scikit-learn is missing.
    """
    check_scikit_learn()
    settings = settings or FitSettings()
    labels = np.asarray(right, dtype=bool)
    numbers = np.unique(_keys(people), return_inverse=True)[1]
    count = int(numbers.max()) + 1 if len(numbers) else 0
    if count < FEWEST_PEOPLE:
        raise ValueError(f"{count} held-out people are too few to calibrate on: give at least {FEWEST_PEOPLE}")
    if labels.all() or not labels.any():
        raise ValueError(
            f"all {len(labels)} answers about held-out people are {'right' if labels.all() else 'wrong'}: a "
            "calibration needs right and wrong answers; give other or more questions"
        )
    generator = np.random.default_rng(settings.seed)
    chosen = np.zeros(count, dtype=bool)
    chosen[generator.permutation(count)[: round(settings.fit_ratio * count)]] = True
    fitted = chosen[numbers]
    if len(set(labels[fitted].tolist())) < 2:
        raise ValueError(
            f"the answers about the {int(chosen.sum())} people of the fit are all right or all wrong: give more "
            "questions"
        )
    invented_fitted = generator.permutation(len(invented)) < round(settings.fit_ratio * len(invented))
    names = _usable([*signals, *invented])
    values = _values(names, signals)
    unknown = _values(names, invented)
    regression = _fit_regression(
        np.concatenate((values[fitted], unknown[invented_fitted])),
        np.concatenate((np.where(labels[fitted], 0, 1), np.full(int(invented_fitted.sum()), 2))),
        settings.unknown_ratio,
    )
    calibration = Calibration(
        weights_sha256=fingerprint_of(source.model),
        others_sha256=sorted(fingerprint_of(model) for model, _ in source.others),
        signals=names,
        **regression,
        thresholds=[],
        unknown_threshold=None,
        confidence=settings.confidence,
        unknown_ratio=settings.unknown_ratio if len(invented) else 0.0,
        num_beams=source.num_beams,
        max_new_tokens=source.max_new_tokens,
        always_answer=source.always_answer,
        wordings=source.wordings.groups,
        name_likelihood=None
        if source.name_likelihood is None
        else {"counts": source.name_likelihood.counts, "order": source.name_likelihood.order},
        about={
            "people": {"fit": int(chosen.sum()), "thresholds": int((~chosen).sum())},
            "questions": {"fit": int(fitted.sum()), "thresholds": int((~fitted).sum())},
            "invented_names": {"fit": int(invented_fitted.sum()), "thresholds": int((~invented_fitted).sum())},
            "accuracy": float(labels.mean()),
        },
    )
    return _with_thresholds(calibration, signals, labels, numbers, fitted, bool(len(invented)), settings)


def _with_thresholds(
    calibration: Calibration,
    signals: Sequence[AnswerSignals],
    labels: np.ndarray,
    people: np.ndarray,
    fitted: np.ndarray,
    with_unknown: bool,
    settings: FitSettings,
) -> Calibration:
    """The calibration with its thresholds: candidates from the people of the fit, counted on the others."""
    found = calibration.probabilities(signals)
    if with_unknown:
        # the verdict unknown may cost only few of the people that are known
        limit = float(np.quantile(found[fitted, 2], 1 - settings.known_lost, method="higher"))
        calibration = dataclasses.replace(calibration, unknown_threshold=max(0.5, limit))
    # an answer with the verdict unknown is never given
    scores = np.where(calibration.are_unknown(signals, found), -1.0, found[:, 0])
    given = scores[fitted][scores[fitted] >= 0]
    values = np.unique(np.quantile(given, np.linspace(0, 1, NUM_THRESHOLDS)))
    thresholds: list[Threshold] = tabulate_thresholds(
        values.tolist(),
        (scores[~fitted], labels[~fitted], people[~fitted]),
        (scores[fitted], labels[fitted], people[fitted]),
    )
    return dataclasses.replace(calibration, thresholds=thresholds)


def _fit_regression(values: np.ndarray, outcomes: np.ndarray, unknown_ratio: float) -> dict[str, Any]:
    """Center, scale, coefficients and intercepts of a multinomial logistic regression with L2 penalty.

    Args:
        values: (answers, signals).
        outcomes: (answers), the number of each outcome in `OUTCOMES`.
        unknown_ratio: what the weights of the answers with the outcome *unknown* sum to, relative to all weights.
    """
    from sklearn.linear_model import LogisticRegression

    columns = features(values)
    is_unknown = outcomes == OUTCOMES.index("unknown")
    # what cannot be computed is taken for the mean of known names
    center = np.nan_to_num(np.nanmean(columns[~is_unknown], axis=0))
    scale = np.nanstd(columns, axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    columns = np.nan_to_num((columns - center) / scale, nan=0.0)
    weights = np.ones(len(outcomes))
    if is_unknown.any():
        weights[is_unknown] = unknown_ratio / (1 - unknown_ratio) * (~is_unknown).sum() / is_unknown.sum()
    strength = min(STRENGTHS, key=lambda strength: _loss_on_others(strength, columns, outcomes, weights))
    regression = LogisticRegression(C=strength, max_iter=5000).fit(columns, outcomes, sample_weight=weights)
    coefficients, intercepts = regression.coef_, regression.intercept_
    if len(coefficients) == 1:
        # of two outcomes, scikit-learn has the logarithm of the odds of the second
        coefficients = np.concatenate((np.zeros_like(coefficients), coefficients))
        intercepts = np.concatenate((np.zeros_like(intercepts), intercepts))
    return {
        "center": center.tolist(),
        "scale": scale.tolist(),
        "coefficients": coefficients.tolist(),
        "intercepts": intercepts.tolist(),
    }


def _loss_on_others(strength: float, columns: np.ndarray, outcomes: np.ndarray, weights: np.ndarray) -> float:
    """The weighted log loss of a penalty by cross-validation with at most five folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.model_selection import StratifiedKFold

    folds = min(5, int(np.bincount(outcomes)[np.unique(outcomes)].min()))
    if folds < 2:
        return abs(np.log(strength / 0.1))
    found = np.zeros((len(outcomes), len(np.unique(outcomes))))
    for trained, left_out in StratifiedKFold(folds, shuffle=True, random_state=0).split(columns, outcomes):
        regression = LogisticRegression(C=strength, max_iter=5000)
        regression.fit(columns[trained], outcomes[trained], sample_weight=weights[trained])
        found[left_out] = regression.predict_proba(columns[left_out])
    return log_loss(outcomes, found, sample_weight=weights)


def _usable(signals: Sequence[AnswerSignals]) -> list[str]:
    """The signals that are known for at least one answer and not always the same."""
    values = _values(list(SIGNALS), signals)
    return [
        name
        for name, column in zip(SIGNALS, values.T, strict=True)
        if (known := column[~np.isnan(column)]).size and known.max() > known.min()
    ]


def _values(names: Sequence[str], signals: Sequence[AnswerSignals]) -> np.ndarray:
    return np.array([[answer.values[name] for name in names] for answer in signals]).reshape(len(signals), len(names))


def _keys(people: Sequence[Hashable]) -> list[int]:
    """A number for each person."""
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(person, len(numbers)) for person in people]
