"""A calibration: from the signals of an answer to p(right), and thresholds with a bounded risk, saved as JSON.

Applying a calibration needs NumPy and torch only; `calibration_fit` makes one with scikit-learn.
"""

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel
from transformers.utils import cached_file

from birthgpt.evaluation.name_likelihood import NameLikelihood
from birthgpt.evaluation.risk import Threshold
from birthgpt.evaluation.signals import SIGNALS, AnswerSignals
from birthgpt.evaluation.wordings import Wordings
from birthgpt.utils.files import read_json, save_json

CALIBRATION = "calibration.json"
FORMAT = 1

OUTCOMES = ("right", "wrong", "unknown")
"""What an answer can be: right, wrong, or about a name that the model never read."""

MOST_BEAMS = 1000


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A multinomial logistic regression on signals, and what is known about its thresholds.

    Args:
        weights_sha256: the fingerprint of the model that it belongs to (`fingerprint_of`).
        others_sha256: those of the checkpoints whose agreement it uses.
        signals: the signals that it uses, in order.
        center, scale: the mean of each feature (see `features`) over the people of the fit, and its standard deviation
            over them and the invented names.
        coefficients: (outcomes, features); intercepts: (outcomes). Without invented names there are two outcomes.
        thresholds: candidates for the lowest p(right) of an answer that is given.
        unknown_threshold: above this p(unknown), the verdict is *unknown*; None without invented names.
        confidence: the probability of the guarantee, over the draw of the people, such as 0.95.
        unknown_ratio: the fraction of questions about names that the model never read, which p(right) assumes.
        num_beams, max_new_tokens, always_answer: how answers and signals are computed.
        wordings: the wordings of the questions of the calibration, and of the agreement.
        name_likelihood: the counts of n-grams of names and their order, if a corpus was given.
        about: counts of people and questions, for the reader.
    """

    weights_sha256: str
    others_sha256: list[str]
    signals: list[str]
    center: list[float]
    scale: list[float]
    coefficients: list[list[float]]
    intercepts: list[float]
    thresholds: list[Threshold]
    unknown_threshold: float | None
    confidence: float
    unknown_ratio: float
    num_beams: int
    max_new_tokens: int
    always_answer: bool
    wordings: list[list[str]]
    name_likelihood: dict[str, Any] | None
    about: dict[str, Any]

    def probabilities(self, signals: Sequence[AnswerSignals]) -> np.ndarray:
        """(answers, 3): p(right), p(wrong) and p(unknown) of each answer; they sum to 1.

        An answer that says unknown is never right.
        """
        values = [[answer.values[name] for name in self.signals] for answer in signals]
        columns = (features(np.array(values).reshape(len(signals), -1)) - self.center) / self.scale
        # what cannot be computed says nothing
        columns = np.nan_to_num(columns, nan=0.0)
        logits = columns @ np.array(self.coefficients).T + np.array(self.intercepts)
        logits[[answer.answer.is_unknown for answer in signals], 0] = -math.inf
        logits = logits - logits.max(axis=1, keepdims=True)
        found = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        return np.pad(found, ((0, 0), (0, len(OUTCOMES) - found.shape[1])))

    def are_unknown(self, signals: Sequence[AnswerSignals], probabilities: np.ndarray) -> np.ndarray:
        """(answers): whether each answer has the verdict *unknown*: the model says so, or p(unknown) is too high."""
        says_so = np.array([answer.answer.is_unknown for answer in signals], dtype=bool)
        limit = math.inf if self.unknown_threshold is None else self.unknown_threshold
        return says_so | (probabilities[:, 2] > limit)

    @property
    def known_wordings(self) -> Wordings:
        """The wordings that the guarantee is about."""
        return Wordings(self.wordings)

    @property
    def likelihood_of_names(self) -> NameLikelihood | None:
        """The language model of the names of the corpus, if there is one."""
        given = self.name_likelihood
        return None if given is None else NameLikelihood(given["counts"], given["order"])


def features(values: np.ndarray) -> np.ndarray:
    """(answers, signals) → (answers, 2 · signals): each signal x, and log(|x| + 0.01).

    Most signals are logarithms of probabilities: the first feature tells apart what is unlikely, and the second what is
    nearly certain.
    """
    return np.concatenate((values, np.log(np.abs(values) + 0.01)), axis=1)


def fingerprint_of(model: PreTrainedModel) -> str:
    """The SHA-256 of all weights of a model with their names and types; the same wherever and however it is saved."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}\n".encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_calibration(folder: str | Path, calibration: Calibration) -> Path:
    """Write `calibration.json` beside a model, completely or not at all; return its path."""
    path = Path(folder) / CALIBRATION
    save_json(path, {"format": FORMAT, **dataclasses.asdict(calibration)})
    return path


def has_calibration(name_or_path: str | Path) -> bool:
    """Whether a folder has a calibration."""
    return (Path(name_or_path) / CALIBRATION).is_file()


def load_calibration(
    name_or_path: str, model: PreTrainedModel, others: Sequence[PreTrainedModel] | None = ()
) -> Calibration:
    """The calibration of a checkpoint, from its folder or from the Hub.

    Args:
        model: the model of the checkpoint.
        others: the checkpoints whose agreement the calibration uses, in any order; None: they are not checked.

    Raises:
        ValueError: there is none; it cannot be read; it was made for another checkpoint, or with other checkpoints.
    """
    path = _find(name_or_path)
    calibration = _read(path)
    if calibration.weights_sha256 != fingerprint_of(model):
        raise ValueError(
            f"{path} belongs to another checkpoint: its weights are not those of this model (or the model was loaded "
            f"in another dtype than it was calibrated in); run `birthgpt calibrate {name_or_path}`"
        )
    if others is None:
        return calibration
    found = sorted(map(fingerprint_of, others))
    if found != sorted(calibration.others_sha256):
        raise ValueError(
            f"{path} was made with the agreement of {len(calibration.others_sha256)} other checkpoints, which are not "
            f"the {len(found)} given ones: give the same agreement_models"
        )
    return calibration


def _find(name_or_path: str) -> Path:
    folder = Path(name_or_path)
    advice = f"run `birthgpt calibrate {name_or_path} --question_file HELD_OUT.tsv`"
    if folder.is_dir():
        if not (folder / CALIBRATION).is_file():
            raise ValueError(f"{name_or_path} has no {CALIBRATION}: {advice}")
        return folder / CALIBRATION
    try:
        found = cached_file(name_or_path, CALIBRATION)
    except OSError:
        found = None
    if found is None:
        raise ValueError(f"{name_or_path} has no {CALIBRATION}, or it cannot be reached: {advice}")
    return Path(found)


def _read(path: Path) -> Calibration:
    content = read_json(path)
    if content.pop("format", None) != FORMAT:
        raise ValueError(f"{path} has another format than this version writes: run `birthgpt calibrate` again")
    try:
        thresholds = [Threshold(**entry) for entry in content.pop("thresholds")]
        calibration = Calibration(thresholds=thresholds, **content)
        _check(calibration)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    return calibration


def _check(calibration: Calibration) -> None:
    """Raise ValueError if a part has a wrong type, or the parts do not fit together."""
    width, outcomes = 2 * len(calibration.signals), len(calibration.intercepts)
    if not set(calibration.signals) <= SIGNALS.keys():
        raise ValueError(f"signals are {calibration.signals}")
    if outcomes not in (2, 3) or len(calibration.coefficients) != outcomes:
        raise ValueError(f"{len(calibration.coefficients)} rows of coefficients and {outcomes} intercepts")
    rows = {"center": calibration.center, "scale": calibration.scale}
    for name, row in [*rows.items(), *(("coefficients", row) for row in calibration.coefficients)]:
        if not isinstance(row, list) or len(row) != width or not all(map(_is_number, row)):
            raise ValueError(f"{name} is not a list of {width} numbers")
    if not all(map(_is_number, calibration.intercepts)) or min(calibration.scale) < 1e-9:
        raise ValueError("an intercept is not a number, or a scale is too small")
    for entry in calibration.thresholds:
        values = dataclasses.astuple(entry)
        if not all(map(_is_number, values)) or not 0 <= entry.wrong <= entry.answered or entry.design_effect < 1:
            raise ValueError(f"a threshold is {entry}")
        if not (isinstance(entry.wrong_before, int) and 0 <= entry.wrong_before <= entry.answered_before):
            raise ValueError(f"a threshold is {entry}")
    is_rate = {
        "confidence": 0 < calibration.confidence < 1,
        "unknown_threshold": calibration.unknown_threshold is None or 0 <= calibration.unknown_threshold <= 1,
    }
    for name, is_right in is_rate.items():
        if not is_right:
            raise ValueError(f"{name} is {getattr(calibration, name)}")
    if min(calibration.num_beams - 1, calibration.max_new_tokens) < 1 or calibration.num_beams > MOST_BEAMS:
        raise ValueError(f"num_beams={calibration.num_beams} and max_new_tokens={calibration.max_new_tokens}")
    _check_names(calibration)


def _check_names(calibration: Calibration) -> None:
    """Raise ValueError if wordings, fingerprints or the counts of names have a wrong type."""
    groups = [calibration.others_sha256, *calibration.wordings]
    if not all(isinstance(group, list) and all(isinstance(text, str) for text in group) for group in groups):
        raise ValueError("wordings and others_sha256 are lists of texts")
    Wordings(calibration.wordings)
    if calibration.name_likelihood is not None:
        counts, order = calibration.name_likelihood["counts"], calibration.name_likelihood["order"]
        if not isinstance(order, int) or not 0 <= order < 100 or not all(map(_is_number, counts.values())):
            raise ValueError("name_likelihood is not an order with counts")
        if min(counts.values(), default=0) < 0:
            raise ValueError("name_likelihood has a negative count")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9
