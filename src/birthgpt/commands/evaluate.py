"""Evaluation: from a checkpoint and questions to predictions and metrics."""

import logging
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator
from transformers import PreTrainedTokenizerBase

from birthgpt.commands.command import Command
from birthgpt.commands.confidence_report import (
    OUTPUTS,
    ConfidenceSettings,
    Judge,
    report_confidence,
    show_confidence,
)
from birthgpt.commands.endless_answers import warn_endless_answers
from birthgpt.commands.loading import load_model_and_tokenizer
from birthgpt.commands.report_answers import (
    Questions,
    ReportSettings,
    check_outputs,
    report_answers,
    show_accuracy,
    training_cost,
)
from birthgpt.commands.unused_settings import unused_in_evaluation, warn_unused
from birthgpt.data.questions import answers_of, relation_in
from birthgpt.data.tokenizers import warn_unknown_characters
from birthgpt.evaluation.answering import (
    Answer,
    AnsweringSettings,
    answer_questions,
    candidate_answers,
    check_question_lengths,
)
from birthgpt.evaluation.baselines import constant_place, most_common_answers, open_book_answers
from birthgpt.evaluation.calibration import MOST_BEAMS
from birthgpt.evaluation.signals import Member
from birthgpt.settings import checked, setting
from birthgpt.training.accelerators import ThreadSettings
from birthgpt.utils.environment import connected_accelerator, use_threads
from birthgpt.utils.errors import naming_source

logger = logging.getLogger(__name__)


@checked
@dataclass(kw_only=True)
class EvaluateSettings:
    """Answer questions with a checkpoint, and measure how many answers are right."""

    report: ReportSettings
    answering: AnsweringSettings
    confidence: ConfidenceSettings
    threads: ThreadSettings
    model_name_or_path: str | None = setting(None, "checkpoint that answers")
    baseline: str | None = setting(
        None,
        "instead of a model: this answer to every question, or: most_common, the most common train answer to questions "
        "of the same relation; open_book, the first known answer in the line of the name, behind the word born",
    )
    num_beams: int = setting(1, "beams; 1 for greedy decoding", min=1, max=MOST_BEAMS)
    competing_answers: int = setting(
        0, "beams (at least 2) of a search for other answers, which answers.jsonl has with probabilities; 0: none",
        min=0, max=MOST_BEAMS,
    )  # fmt: skip
    dry_run: bool = setting(False, "check the inputs, show three prompts, and answer nothing")

    def validate_source(self):
        """Either a model or a baseline answers."""
        if (self.model_name_or_path is None) == (self.baseline is None):
            raise ValueError("give exactly one of model_name_or_path and baseline")

    def validate_competing_answers(self):
        """Other answers are those of a model."""
        if self.competing_answers and self.baseline is not None:
            raise ValueError("competing_answers are those of a model: leave it out for a baseline")

    def validate_confidence(self):
        """A calibration judges the greedy answers of a model."""
        if self.confidence.max_risk is None:
            return
        if self.baseline is not None:
            raise ValueError("max_risk needs the probabilities of a model: leave it out for a baseline")
        if self.num_beams != 1:
            raise ValueError(f"max_risk judges greedy answers: leave out num_beams={self.num_beams}")


def evaluate(settings: EvaluateSettings) -> dict | None:
    """Answer questions; write `predictions.txt` with one answer per line, and `metrics.json` if there are answers.

    With `baseline`, no model is needed.

    Raises:
        ValueError: the checkpoint, a file or a setting is wrong.
    """
    accelerator = connected_accelerator()
    use_threads(accelerator, settings.threads.num_threads)
    with_verdicts = settings.confidence.max_risk is not None
    check_outputs(settings.report, accelerator, *(OUTPUTS if with_verdicts else ()))
    if accelerator.is_main_process:
        warn_unused(settings, unused_in_evaluation(settings))
    questions = Questions.load(settings.report)
    # before the answers, so that an unreadable run.json is an error at once
    cost = training_cost(settings.model_name_or_path)
    confidence = candidates = None
    if settings.baseline is not None:
        answers = baseline_answers(settings.baseline, questions)
    else:
        member = load_member(settings, questions, accelerator)
        judge = load_judge(settings, member) if with_verdicts else None
        if settings.dry_run:
            show_prompts(member[1], questions, accelerator)
            return None
        answers = model_answers(settings, member, questions, accelerator)
        if settings.competing_answers and accelerator.is_main_process:
            candidates = competing_answers(settings, member, questions)
        if judge is not None:
            asked = questions.asked
            judged = judge(asked["question"][:], answers, asked["name"][:], accelerator)
            invented = judge.about_invented(settings.confidence, questions, accelerator)
            if accelerator.is_main_process:
                confidence = report_confidence(settings.report, judge, questions, judged, invented)
    if settings.dry_run or not accelerator.is_main_process:
        return None
    return report_answers(
        settings.report,
        questions,
        answers,
        name=Path(settings.model_name_or_path or settings.baseline or "").name,
        cost=cost,
        with_probabilities=settings.baseline is None,
        checkpoint=settings.model_name_or_path,
        candidates=candidates,
        more={} if confidence is None else {"confidence": confidence},
    )


def baseline_answers(baseline: str, questions: Questions) -> list[Answer]:
    """The answers of `most_common` or `open_book`, or the given answer to every question."""
    train = [(relation_in(row), answer) for row in questions.train or () for answer in answers_of(row)]
    if baseline == "open_book":
        if questions.lines is None:
            raise ValueError("baseline=open_book reads the answers in lines: give corpus_file")
        return [Answer(text, 0.0) for text in open_book_answers(questions.asked, questions.lines, train)]
    if baseline != "most_common":
        return [Answer(text, 0.0) for text in constant_place(baseline, len(questions.asked))]
    relations = [relation_in(row) for row in questions.asked]
    trained = {relation for relation, _ in train}
    others = [
        row["question"] for row, relation in zip(questions.asked, relations, strict=True) if relation not in trained
    ]
    if others and train:
        logger.warning(
            "baseline=most_common: %d questions are of a relation without train questions, first %r: they get the most "
            "common of all train answers",
            len(others),
            others[0],
        )
    return [Answer(text, 0.0) for text in most_common_answers(relations, train)]


def load_member(settings: EvaluateSettings, questions: Questions, accelerator: Accelerator) -> Member:
    """The model and the tokenizer of the checkpoint, after a check of the questions."""
    assert settings.model_name_or_path is not None
    model, tokenizer = load_model_and_tokenizer(settings.model_name_or_path)
    texts = questions.asked["question"][:]
    with naming_source(settings.report.question_file):
        check_question_lengths(model, tokenizer, texts)
    if accelerator.is_main_process:
        warn_unknown_characters(tokenizer, texts, settings.report.question_file)
    return model.to(accelerator.device), tokenizer


def load_judge(settings: EvaluateSettings, member: Member) -> Judge:
    """The calibration of the checkpoint, for answers that are decoded as in this evaluation."""
    assert settings.model_name_or_path is not None
    answering = settings.answering
    return Judge.load(settings.model_name_or_path, member, settings.confidence, answering, answering.batch_size)


def show_prompts(tokenizer: PreTrainedTokenizerBase, questions: Questions, accelerator: Accelerator) -> None:
    """Print the first three prompts, on the main process."""
    for question in questions.asked["question"][:3] if accelerator.is_main_process else []:
        print(tokenizer.decode(tokenizer(question)["input_ids"]))


def model_answers(
    settings: EvaluateSettings, member: Member, questions: Questions, accelerator: Accelerator
) -> list[Answer]:
    """The answers of a checkpoint."""
    texts = questions.asked["question"][:]
    answers = answer_questions(
        *member,
        texts,
        batch_size=settings.answering.batch_size,
        max_new_tokens=settings.answering.max_new_tokens,
        num_beams=settings.num_beams,
        always_answer=settings.answering.always_answer,
        progress=accelerator.is_main_process,
        accelerator=accelerator,
    )
    if accelerator.is_main_process:
        warn_endless_answers(texts, answers, str(settings.model_name_or_path))
    return answers


def competing_answers(settings: EvaluateSettings, member: Member, questions: Questions) -> list[list[Answer]]:
    """The answers of all beams to each question, the most likely first."""
    return candidate_answers(
        *member,
        questions.asked["question"][:],
        num_beams=max(2, settings.competing_answers),
        batch_size=settings.answering.batch_size,
        max_new_tokens=settings.answering.max_new_tokens,
        always_answer=settings.answering.always_answer,
    )


def show_evaluation(metrics: dict | None) -> None:
    """Print how many answers are right, and how well the model knows it."""
    show_accuracy(metrics)
    if metrics is not None and "confidence" in metrics:
        show_confidence(metrics["confidence"])


COMMAND = Command(EvaluateSettings, evaluate, show_evaluation)
