"""Answers with a calibrated probability of being right, and a verdict whose risk is bounded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from accelerate import Accelerator
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from birthgpt.evaluation.answering import Answer
from birthgpt.evaluation.calibration import Calibration
from birthgpt.evaluation.risk import check_risk, choose_threshold
from birthgpt.evaluation.signals import AnswerSignals, Member, SignalSource, collect_signals

Verdict = Literal["recalled", "unsure", "unknown"]

GUARANTEE = (
    "of the answers that are called recalled, at most {risk:.1%} are wrong, with a probability of {confidence:.0%} "
    "over the draw of the people of the calibration; for people drawn like them, and questions in the same wordings"
)
"""What the verdict promises."""


@dataclass(frozen=True)
class ConfidentAnswer:
    """An answer with what is known about it.

    Args:
        answer: the greedy answer, the same as without a calibration.
        right, unknown: p(right), and the probability that the model never read the name, both in 0..1.
        verdict: *recalled*: the answer is given, and the risk of all such answers is bounded; *unknown*: the model
            probably never read the name; *unsure*: anything else.
        in_scope: whether the question has a wording of the calibration. If not, the bound does not hold for it.
    """

    answer: Answer
    right: float
    unknown: float
    verdict: Verdict
    in_scope: bool

    @property
    def text(self) -> str:
        """The text of the answer; empty if it says unknown."""
        return self.answer.text


def signal_source(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    calibration: Calibration,
    others: Sequence[Member] = (),
    batch_size: int = 256,
) -> SignalSource:
    """What the signals of a calibration are computed from."""
    return SignalSource(
        model,
        tokenizer,
        wordings=calibration.known_wordings,
        others=others,
        name_likelihood=calibration.likelihood_of_names,
        num_beams=calibration.num_beams,
        batch_size=batch_size,
        max_new_tokens=calibration.max_new_tokens,
        always_answer=calibration.always_answer,
    )


def answer_with_confidence(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[str],
    calibration: Calibration,
    *,
    max_risk: float = 0.05,
    others: Sequence[Member] = (),
    batch_size: int = 256,
    accelerator: Accelerator | None = None,
) -> list[ConfidentAnswer]:
    """Answer questions, each with p(right), p(unknown) and a verdict.

        model, tokenizer = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
        calibration = load_calibration(path, model)
        answers = answer_with_confidence(model, tokenizer, ["Where was Ada Lovelace born?"], calibration, max_risk=0.05)

    Args:
        calibration: that of the checkpoint (`calibration.load_calibration`).
        max_risk: the rate of wrong answers, between 0 and 1, that is allowed among the answers called *recalled*.
        others: the checkpoints whose agreement the calibration uses, if it does.
        accelerator: with several processes, each answers a part of the questions and returns all answers.

    Raises:
        ValueError: the risk is not between 0 and 1, or a question is wrong for the model.
    """
    check_risk(max_risk)
    source = signal_source(model, tokenizer, calibration, others, batch_size)
    return judge(calibration, collect_signals(source, questions, accelerator=accelerator), max_risk)


def judge(calibration: Calibration, signals: Sequence[AnswerSignals], max_risk: float) -> list[ConfidentAnswer]:
    """The answers with probabilities and verdicts, from their signals."""
    threshold = choose_threshold(calibration.thresholds, max_risk, calibration.confidence)
    probabilities = calibration.probabilities(signals)
    found = []
    for answer, (right, _, unknown), is_unknown in zip(
        signals, probabilities.tolist(), calibration.are_unknown(signals, probabilities).tolist(), strict=True
    ):
        verdict: Verdict = "unsure"
        if is_unknown:
            verdict = "unknown"
        elif threshold is not None and right >= threshold.value:
            verdict = "recalled"
        found.append(ConfidentAnswer(answer.answer, right, unknown, verdict, answer.in_scope))
    return found
