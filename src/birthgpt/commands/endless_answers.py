"""A warning for answers without an end: the model does not recognise their questions."""

import logging
from collections.abc import Sequence
from pathlib import Path

from birthgpt.commands.run_metadata import read_run_metadata
from birthgpt.data.questions import load_questions
from birthgpt.evaluation.answering import Answer

logger = logging.getLogger(__name__)


def warn_endless_answers(questions: Sequence[str], answers: Sequence[Answer], checkpoint: str) -> None:
    """Log one warning if answers run on to the longest length: how many, and how the model has learned questions."""
    endless = [question for question, answer in zip(questions, answers, strict=True) if not answer.has_end]
    if endless:
        logger.warning(
            "%d of %d answers do not end: the model does not recognise the question, as in %r%s",
            len(endless),
            len(answers),
            endless[0],
            _what_was_learned(endless[0], checkpoint),
        )


def _what_was_learned(question: str, checkpoint: str) -> str:
    """A question that the model was finetuned on, and words that it knows only in another case."""
    learned = _learned_questions(checkpoint)
    if not learned:
        return ""
    words = {word for text in learned for word in text.split()}
    in_lower_case = {word.casefold(): word for word in words}
    others = [word for word in question.split() if word not in words and word.casefold() in in_lower_case]
    spelled = ", ".join(f"{in_lower_case[word.casefold()]!r}, not {word!r}" for word in others)
    return f"; it has learned questions such as {learned[0]!r}{f' ({spelled})' if spelled else ''}"


def _learned_questions(checkpoint: str) -> list[str]:
    """The questions that a checkpoint was finetuned on; empty if they are not known, or not on this machine."""
    try:
        run = read_run_metadata(checkpoint)
        if run is None or run["kind"] != "finetuning" or not Path(run["settings"]["train_file"]).is_file():
            return []
        return load_questions(run["settings"]["train_file"])["question"][:]
    except (ValueError, KeyError, TypeError):
        # the warning does not depend on them
        return []
