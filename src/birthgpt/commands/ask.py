"""Ask a checkpoint one question, or many questions that are typed one after the other."""

from collections.abc import Iterator
from dataclasses import dataclass

from birthgpt.commands.command import Command
from birthgpt.commands.confidence_report import Judge, RiskSettings
from birthgpt.commands.endless_answers import warn_endless_answers
from birthgpt.commands.loading import load_model_and_tokenizer
from birthgpt.commands.lookup_answers import LookupDesk, LookupSettings
from birthgpt.commands.unused_settings import unused_in_asking, warn_unused
from birthgpt.data.names import normalize
from birthgpt.data.tokenizers import warn_unknown_characters
from birthgpt.evaluation.answering import Answer, DecodingSettings, answer_questions
from birthgpt.evaluation.confidence import ConfidentAnswer
from birthgpt.settings import checked, setting


@checked
@dataclass(kw_only=True)
class AskSettings(DecodingSettings):
    """Ask a checkpoint a question; without one, ask for questions until an empty line."""

    model_name_or_path: str = setting(help="finetuned checkpoint")
    question: str | None = setting(None, "such as: Where was Ada Lovelace born?")
    risk: RiskSettings
    lookup: LookupSettings


def ask(settings: AskSettings) -> None:
    """Print each answer with its probability, or, with `max_risk`, with p(right) and the verdict.

    With `lookup_file`, what the file says is printed below an answer that is not called recalled.

    Raises:
        ValueError: there is no checkpoint, or a question is too long for the model; with `max_risk`, the checkpoint has
            no calibration, or one of another checkpoint; `lookup_file` is given without `max_risk`, or is wrong.
    """
    if settings.lookup.lookup_file is not None and settings.risk.max_risk is None:
        raise ValueError("lookup_file is asked where the verdict is not recalled: give max_risk too, such as 0.05")
    warn_unused(settings, unused_in_asking(settings))
    model, tokenizer = load_model_and_tokenizer(settings.model_name_or_path)
    judge = desk = None
    if settings.risk.max_risk is not None:
        judge = Judge.load(settings.model_name_or_path, (model, tokenizer), settings.risk, settings)
        if settings.lookup.lookup_file is not None:
            desk = LookupDesk(settings.lookup, judge.source.wordings)
    for question in [settings.question] if settings.question is not None else read_questions():
        asked = [normalize(question)]
        warn_unknown_characters(tokenizer, asked, "the question")
        answers = answer_questions(
            model,
            tokenizer,
            asked,
            max_new_tokens=settings.max_new_tokens,
            always_answer=settings.always_answer,
        )
        if judge is None:
            print(describe(answers[0]))
        else:
            (judged,) = judge(asked, answers)
            print(describe_verdict(judged))
            if desk is not None and judged.verdict != "recalled":
                print(desk(asked[0]))
        warn_endless_answers(asked, answers, settings.model_name_or_path)


def describe(answer: Answer) -> str:
    """`London (probability 0.83)`, or `unknown (probability 0.97)`; the text may be empty."""
    return f"{answer.shown or '(nothing)'} (probability {answer.probability:.2f})"


def describe_verdict(answer: ConfidentAnswer) -> str:
    """The verdict, the answer and p(right); what the verdict does not cover is said."""
    guess = f"{answer.answer.shown or '(nothing)'} (p(right) {answer.right:.2f})"
    shown = {
        "recalled": f"{guess}: recalled",
        "unsure": f"unsure; the best guess is {guess}",
        "unknown": f"unknown: the model probably never read about this name (p {answer.unknown:.2f})",
    }[answer.verdict]
    return shown if answer.in_scope else f"{shown}; the calibration has no such wording: nothing is promised"


def read_questions() -> Iterator[str]:
    """The questions that a user types, up to an empty line or the end of the input."""
    while True:
        try:
            question = input("question: ").strip()
        except EOFError:
            return
        if not question:
            return
        yield question


COMMAND = Command(AskSettings, ask, positional=("model_name_or_path", "question"), several_processes=False)
