"""The registry of the objectives, which convert lines to inputs and targets. Each objective has its own file."""

from collections.abc import Iterable, Mapping
from typing import Any

from transformers import PreTrainedTokenizerBase

from birthgpt.data.objectives.base import FEATURES, IGNORE, NOT_UNKNOWN, Batch, Objective
from birthgpt.data.objectives.language_modeling import LanguageModeling
from birthgpt.data.objectives.name_first import NameFirst
from birthgpt.data.objectives.question_answering import QuestionAnswering
from birthgpt.data.objectives.recall_from_name import RecallFromName, Span
from birthgpt.data.objectives.salient_spans import SalientSpans
from birthgpt.data.objectives.span_corruption import SpanCorruption
from birthgpt.data.objectives.unknown_answers import UnknownAnswers
from birthgpt.data.unknown_names import UnknownNames
from birthgpt.settings import CollectedSettings, collect_settings, setting, settings_of

OBJECTIVES: dict[str, type[Objective]] = {
    "span_corruption": SpanCorruption,
    "language_modeling": LanguageModeling,
    "name_first": NameFirst,
    "salient_spans": SalientSpans,
}
"""The objectives of pretraining by name, which is the value of the setting `objective`."""


@collect_settings(*OBJECTIVES.values(), QuestionAnswering)
class ObjectiveSettings(CollectedSettings):
    """How lines, and questions among them, become examples: the objective, and the settings of all objectives."""

    objective: str = setting("span_corruption", "what is predicted from what", choices=OBJECTIVES)


@collect_settings(QuestionAnswering)
class ExampleSettings(CollectedSettings):
    """How questions become examples."""


def teaches_unknown(settings: ObjectiveSettings | ExampleSettings) -> bool:
    """Whether some examples are about invented names."""
    return any(getattr(settings, name, 0) > 0 for name in ("unknown_name_ratio", "unknown_question_ratio"))


def build_objective(
    settings: ObjectiveSettings,
    tokenizer: PreTrainedTokenizerBase,
    lines: Iterable[Mapping[str, Any]],
    unknown_names: UnknownNames | None = None,
    for_encoder_decoder: bool = False,
    questions: Iterable[Mapping[str, Any]] = (),
) -> Objective:
    """The objective that the settings name.

    Args:
        lines: the corpus, in which an objective may count words.
        questions: the train questions, in which it may count words too.
        unknown_names: some of its examples are about these invented names.

    Raises:
        ValueError: its examples cannot be divided between an encoder and a decoder.
    """
    kind = OBJECTIVES[settings.objective]
    if for_encoder_decoder and not kind.output_mask:
        fitting = ", ".join(name for name, other in OBJECTIVES.items() if other.output_mask)
        raise ValueError(f"objective={settings.objective} has no input for an encoder: choose from {fitting}")
    if for_encoder_decoder and issubclass(kind, RecallFromName) and settings.objective_layout == "branches":
        raise ValueError("an encoder–decoder cannot take branches: set objective_layout to unrolled")
    values = {entry.name: getattr(settings, entry.name) for entry in settings_of(kind)}
    objective = kind(tokenizer, for_encoder_decoder=for_encoder_decoder, **values)
    if isinstance(objective, UnknownAnswers):
        objective.unknown_names = unknown_names
    objective.read_corpus(lines)
    objective.read_questions(questions)
    return objective


def build_question_answering(
    settings: ObjectiveSettings | ExampleSettings,
    tokenizer: PreTrainedTokenizerBase,
    block_size: int,
    questions: Iterable[Mapping[str, Any]],
    unknown_names: UnknownNames | None = None,
    for_encoder_decoder: bool = False,
) -> QuestionAnswering:
    """Questions as examples, in a block of this size.

    Args:
        questions: the train questions, whose words are counted.
        unknown_names: some examples are about these invented names.
    """
    objective = QuestionAnswering(
        tokenizer,
        block_size,
        unknown_question_ratio=settings.unknown_question_ratio,
        question_word_dropout=settings.question_word_dropout,
        question_word_shuffle=settings.question_word_shuffle,
        unknown_names=unknown_names,
        for_encoder_decoder=for_encoder_decoder,
    )
    objective.read_questions(questions)
    return objective


__all__ = [
    "FEATURES",
    "IGNORE",
    "NOT_UNKNOWN",
    "OBJECTIVES",
    "Batch",
    "ExampleSettings",
    "LanguageModeling",
    "NameFirst",
    "Objective",
    "ObjectiveSettings",
    "QuestionAnswering",
    "RecallFromName",
    "SalientSpans",
    "Span",
    "SpanCorruption",
    "UnknownAnswers",
    "build_objective",
    "build_question_answering",
    "teaches_unknown",
]
