"""Ask a checkpoint one question, or many questions that are typed one after the other."""

from collections.abc import Iterator
from dataclasses import dataclass

from birthgpt.commands.command import Command
from birthgpt.commands.endless_answers import warn_endless_answers
from birthgpt.commands.loading import load_model_and_tokenizer
from birthgpt.data.names import normalize
from birthgpt.data.tokenizers import warn_unknown_characters
from birthgpt.evaluation.answering import Answer, DecodingSettings, answer_questions
from birthgpt.settings import checked, setting


@checked
@dataclass(kw_only=True)
class AskSettings(DecodingSettings):
    """Ask a checkpoint a question; without one, ask for questions until an empty line."""

    model_name_or_path: str = setting(help="finetuned checkpoint")
    question: str | None = setting(None, "such as: Where was Ada Lovelace born?")


def ask(settings: AskSettings) -> None:
    """Print each answer with its probability.

    Raises:
        ValueError: there is no checkpoint, or a question is too long for the model.
    """
    model, tokenizer = load_model_and_tokenizer(settings.model_name_or_path)
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
        print(describe(answers[0]))
        warn_endless_answers(asked, answers, settings.model_name_or_path)


def describe(answer: Answer) -> str:
    """`London (probability 0.83)`, or `unknown (probability 0.97)`; the text may be empty."""
    return f"{answer.shown or '(nothing)'} (probability {answer.probability:.2f})"


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
