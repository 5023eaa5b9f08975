"""The registry of the objectives, which convert lines to inputs and targets. Each objective has its own file."""

from transformers import PreTrainedTokenizerBase

from birthgpt.data.objectives.base import FEATURES, IGNORE, Batch, Objective
from birthgpt.data.objectives.language_modeling import LanguageModeling
from birthgpt.data.objectives.name_first import NameFirst
from birthgpt.data.objectives.question_answering import QuestionAnswering
from birthgpt.data.objectives.recall_from_name import RecallFromName, Span
from birthgpt.data.objectives.salient_spans import SalientSpans
from birthgpt.data.objectives.span_corruption import SpanCorruption
from birthgpt.settings import CollectedSettings, collect_settings, setting, settings_of

OBJECTIVES: dict[str, type[Objective]] = {
    "span_corruption": SpanCorruption,
    "language_modeling": LanguageModeling,
    "name_first": NameFirst,
    "salient_spans": SalientSpans,
}
"""The objectives of pretraining by name, which is the value of the setting `objective`."""


@collect_settings(*OBJECTIVES.values())
class ObjectiveSettings(CollectedSettings):
    """How lines become examples: the objective, and the settings of all objectives."""

    objective: str = setting("span_corruption", "what is predicted from what", choices=OBJECTIVES)


@collect_settings(QuestionAnswering)
class ExampleSettings(CollectedSettings):
    """How questions become examples."""


def build_objective(
    settings: ObjectiveSettings, tokenizer: PreTrainedTokenizerBase, for_encoder_decoder: bool = False
) -> Objective:
    """The objective that the settings name.

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
    return kind(tokenizer, for_encoder_decoder=for_encoder_decoder, **values)


__all__ = [
    "FEATURES",
    "IGNORE",
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
    "build_objective",
]
