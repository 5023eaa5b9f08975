"""What an evaluation says about confidence: verdicts, metrics and figures."""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from accelerate import Accelerator

from birthgpt.commands.invented_questions import invented_questions
from birthgpt.commands.loading import load_model_and_tokenizer
from birthgpt.commands.report_answers import Questions, ReportSettings
from birthgpt.data.questions import answers_of
from birthgpt.data.splits import person_of
from birthgpt.evaluation.answering import Answer, DecodingSettings
from birthgpt.evaluation.calibration import Calibration, load_calibration
from birthgpt.evaluation.confidence import GUARANTEE, ConfidentAnswer, Verdict, judge, signal_source
from birthgpt.evaluation.confidence_figures import FIGURES, draw_figures
from birthgpt.evaluation.confidence_metrics import (
    error_by_chance,
    measure_confidence,
    measure_unknown,
    rate,
    show_metrics,
)
from birthgpt.evaluation.risk import choose_threshold
from birthgpt.evaluation.signals import Member, SignalSource, collect_signals
from birthgpt.settings import Number, checked, setting
from birthgpt.utils.files import write_text
from birthgpt.utils.tables import text_table

logger = logging.getLogger(__name__)

CONFIDENCE = "confidence.jsonl"
OUTPUTS = (CONFIDENCE, *FIGURES)
"""The files that an evaluation with a risk writes."""


@checked
@dataclass(kw_only=True)
class RiskSettings:
    """The risk that a user allows, for a checkpoint that was calibrated by `birthgpt calibrate`."""

    max_risk: Number | None = setting(
        None,
        "allowed rate of wrong answers among those that are called recalled, such as 0.05; no verdicts if not given",
        above=0,
        below=1,
    )
    agreement_models: list[str] | None = setting(
        None, "the checkpoints whose agreement the calibration uses, if it does"
    )

    def validate_agreement_models(self):
        """Only a calibration uses other checkpoints."""
        if self.agreement_models and self.max_risk is None:
            raise ValueError("agreement_models are used by a calibration: give max_risk too")


@checked
@dataclass(kw_only=True)
class ConfidenceSettings(RiskSettings):
    """The risk, and what is measured about it."""

    invented_names: int = setting(
        500, "names that no line of corpus_file has, to measure what is answered about them; 0: none", min=0
    )


@dataclass
class Judge:
    """A calibration with what its signals are computed from.

    Args:
        risk: the allowed rate of wrong answers.
    """

    calibration: Calibration
    source: SignalSource
    risk: float

    @classmethod
    def load(
        cls,
        name_or_path: str,
        member: Member,
        settings: RiskSettings,
        decoding: DecodingSettings,
        batch_size: int = 256,
    ) -> "Judge":
        """The calibration of a checkpoint that is loaded.

        Raises:
            ValueError: there is none, or it belongs to other weights, or to answers that are decoded in another way.
        """
        assert settings.max_risk is not None
        model, tokenizer = member
        device: Any = model.device
        loaded = map(load_model_and_tokenizer, settings.agreement_models or ())
        others = [(other.to(device), its_tokenizer) for other, its_tokenizer in loaded]
        calibration = load_calibration(name_or_path, model, [other for other, _ in others])
        for name in ("max_new_tokens", "always_answer"):
            given, calibrated = getattr(decoding, name), getattr(calibration, name)
            if given != calibrated:
                raise ValueError(
                    f"{name}={given}, but {name_or_path} was calibrated with {name}={calibrated}: give the same, or "
                    "calibrate it again"
                )
        return cls(calibration, signal_source(model, tokenizer, calibration, others, batch_size), settings.max_risk)

    def __call__(
        self,
        questions: Sequence[str],
        answers: Sequence[Answer] | None = None,
        names: Sequence[str] | None = None,
        accelerator: Accelerator | None = None,
    ) -> list[ConfidentAnswer]:
        """The answers to questions, or the given ones, with verdicts; arguments as those of `collect_signals`."""
        signals = collect_signals(self.source, questions, answers=answers, names=names, accelerator=accelerator)
        return judge(self.calibration, signals, self.risk)

    def about_invented(
        self, settings: ConfidenceSettings, questions: Questions, accelerator: Accelerator
    ) -> list[ConfidentAnswer]:
        """The answers to questions about invented names; none without the lines of a corpus."""
        if questions.lines is None:
            return []
        names = filter(None, questions.lines)
        texts = invented_questions(names, list(questions.asked), settings.invented_names, "measurement")
        return self(texts, accelerator=accelerator) if texts else []


def report_confidence(
    settings: ReportSettings,
    judge: Judge,
    questions: Questions,
    judged: Sequence[ConfidentAnswer],
    invented: Sequence[ConfidentAnswer],
) -> dict[str, Any] | None:
    """Write `confidence.jsonl`, and the figures if the questions have answers; return the metrics.

    Args:
        judged: the answers to the questions.
        invented: the answers about invented names.

    Returns:
        `max_risk`, `confidence`, `threshold` (None if no answer is certain enough); the metrics of
        `measure_confidence`, `calibration_error_by_chance`; `recalled`, the rate of questions with this verdict, and
        `risk`, the rate of wrong answers among them; `verdicts`, their numbers; `other_wordings`, the number of
        questions that the bound is not about; and, if there are invented names, `auroc_known_invented` and
        `invented_recalled`. None if the questions have no answers.
    """
    output = Path(settings.output_dir)
    rows = [
        {
            "question": question,
            "answer": answer.answer.shown,
            "right": answer.right,
            "unknown": answer.unknown,
            "verdict": answer.verdict,
            "wording_is_calibrated": answer.in_scope,
        }
        for question, answer in zip(questions.asked["question"][:], judged, strict=True)
    ]
    write_text(output / CONFIDENCE, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    if questions.asked["answer"][0] is None:
        return None
    right = [answer.text in answers_of(row) for answer, row in zip(judged, questions.asked, strict=True)]
    people = [person_of(row) for row in questions.asked]
    metrics = confidence_metrics(judge, judged, right, people, invented)
    draw_figures(output, [answer.right for answer in judged], right, [answer.right for answer in invented], judge.risk)
    return metrics


def confidence_metrics(
    judge: Judge,
    judged: Sequence[ConfidentAnswer],
    right: Sequence[bool],
    people: Sequence[tuple[str, str]],
    invented: Sequence[ConfidentAnswer],
) -> dict[str, Any]:
    """The metrics of `report_confidence`."""
    calibration = judge.calibration
    threshold = choose_threshold(calibration.thresholds, judge.risk, calibration.confidence)
    probabilities = [answer.right for answer in judged]
    given = [is_right for answer, is_right in zip(judged, right, strict=True) if answer.verdict == "recalled"]
    verdicts = Counter(answer.verdict for answer in judged)
    found = {
        "max_risk": judge.risk,
        "confidence": calibration.confidence,
        "threshold": None if threshold is None else threshold.value,
        **measure_confidence(probabilities, right, people, judge.risk),
        "calibration_error_by_chance": error_by_chance(probabilities),
        "recalled": rate(len(given), len(judged)),
        "risk": rate(len(given) - sum(given), len(given)),
        "verdicts": {verdict: verdicts[verdict] for verdict in get_args(Verdict)},
        "other_wordings": sum(not answer.in_scope for answer in judged),
    }
    if invented:
        found["auroc_known_invented"] = measure_unknown(
            [1 - answer.unknown for answer in judged], [1 - answer.unknown for answer in invented]
        )
        recalled = sum(answer.verdict == "recalled" for answer in invented)
        found["invented_recalled"] = rate(recalled, len(invented))
    return found


def show_confidence(metrics: dict[str, Any]) -> None:
    """Print the metrics of confidence with their intervals, and what the verdict promises."""
    measured = {name: entry for name, entry in metrics.items() if isinstance(entry, dict) and "value" in entry}
    rows = show_metrics(measured)
    print("\n" + text_table(rows, list(rows[0])))
    if metrics["threshold"] is None:
        print(
            f"\nno answer is certain enough for max_risk={metrics['max_risk']}: allow a greater risk, or calibrate on "
            "more people"
        )
    else:
        print("\n" + GUARANTEE.format(risk=metrics["max_risk"], confidence=metrics["confidence"]))
    if metrics["other_wordings"]:
        print(f"{metrics['other_wordings']} questions are in other wordings: nothing is promised about them")
