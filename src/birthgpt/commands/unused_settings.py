"""Settings that are given, but that nothing reads: a warning names them before the work."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field
from typing import Any

from birthgpt.data.objectives import OBJECTIVES
from birthgpt.model.attention_types import config_classes, get_attention_type
from birthgpt.model.configuration_base import BaseConfig
from birthgpt.settings import declared_settings, flatten_settings, settings_of

logger = logging.getLogger(__name__)

Unused = dict[str, list[str]]
"""Why settings have no effect → their names."""


def warn_unused(settings: Any, unused: Mapping[str, Iterable[str]]) -> None:
    """Log one line for each reason for which settings have no effect, if they are given: neither the default nor 0."""
    for line in unused_settings(settings, unused):
        logger.warning("%s", line)


def unused_settings(settings: Any, unused: Mapping[str, Iterable[str]]) -> list[str]:
    """The lines that `warn_unused` logs."""
    declared, values = declared_settings(type(settings)), flatten_settings(settings)
    lines = []
    for reason, names in unused.items():
        # what is turned off has no effect anywhere
        given = [f"{name}={values[name]}" for name in names if values[name] not in (0, _default(declared[name]))]
        if given:
            lines.append(f"{', '.join(given)} {'has' if len(given) == 1 else 'have'} no effect: {reason}")
    return lines


def unused_in_pretraining(settings: Any) -> Unused:
    """What a `PretrainSettings` has and does not need."""
    objective = settings.objective.objective
    all_of_objectives = {entry.name for kind in OBJECTIVES.values() for entry in settings_of(kind)}
    own = {entry.name for entry in settings_of(OBJECTIVES[objective])}
    unused = {
        f"objective={objective} does not read it": sorted(all_of_objectives - own),
        **_in_model(settings.model),
        **_in_tokenizer(settings.tokenizer),
        **_in_training(settings.training),
    }
    if settings.questions.question_file is None or not settings.questions.question_ratio:
        of_questions = ["question_word_dropout", "question_word_shuffle", "cue_question_words"]
        unused["no questions are trained on"] = of_questions
    if objective == "salient_spans":
        unused |= _in_salient_spans(settings.objective)
    if not settings.corpus.streaming:
        unused["streaming=False"] = ["stream_buffer_size"]
    return unused


def _in_salient_spans(objective: Any) -> Unused:
    unused = {}
    if not objective.lower_case_probability:
        unused["lower_case_probability is 0"] = ["lower_case_frequency", "leave_out_collocations"]
    if not objective.cue_probability:
        unused["cue_probability is 0"] = ["max_gap_tokens"]
    if not objective.cue_before_name_probability:
        unused["cue_before_name_probability is 0"] = ["cue_question_words"]
    return unused


def unused_in_finetuning(settings: Any) -> Unused:
    """What a `FinetuneSettings` has and does not need."""
    unused = _in_training(settings.training) | unused_columns(settings.start.corpus_file)
    if settings.start.model_name_or_path is not None:
        names = ["tokenizer_type", "vocab_size", "answer_end", "block_size"]
        unused["tokenizer and longest example are those of model_name_or_path"] = names
    else:
        unused |= _in_model(settings.model) | _in_tokenizer(settings.tokenizer)
    if not settings.validation.validation_size and settings.questions.validation_file is None:
        unused["no question is held out: give validation_size or validation_file"] = ["eval_steps"]
    return unused


def unused_in_evaluation(settings: Any) -> Unused:
    """What an `EvaluateSettings` has and does not need."""
    unused = unused_columns(settings.report.corpus_file)
    if settings.baseline is not None:
        unused["a baseline generates nothing"] = ["num_beams", "batch_size", "max_new_tokens"]
    if settings.confidence.max_risk is None:
        unused["without max_risk there are no verdicts"] = ["invented_names"]
    elif settings.report.corpus_file is None:
        unused["names are invented from a corpus_file"] = ["invented_names"]
    return unused


def unused_in_calibration(settings: Any) -> Unused:
    """What a `CalibrateSettings` has and does not need."""
    unused = unused_columns(settings.corpus_file)
    if settings.corpus_file is None:
        unused["names are invented from a corpus_file"] = ["invented_names", "unknown_ratio"]
    elif not settings.invented_names:
        unused["invented_names is 0"] = ["unknown_ratio"]
    return unused


def unused_in_asking(settings: Any) -> Unused:
    """What an `AskSettings` has and does not need."""
    if settings.lookup.lookup_file is not None:
        return {}
    columns = ["text_column", "name_column", "question_column", "answer_column", "relation_column"]
    return {"there is no lookup_file": columns}


def unused_columns(corpus_file: str | None) -> Unused:
    """The columns of a corpus that is not given."""
    return {} if corpus_file is not None else {"there is no corpus_file": ["text_column", "name_column"]}


def _in_model(model: Any) -> Unused:
    names = listed(model.attention_type)
    in_encoder = [] if model.architecture == "decoder" else listed(model.encoder_attention_type or names)
    kinds = [get_attention_type(name) for name in names]
    unused = _in_attention(kinds, [get_attention_type(name) for name in in_encoder], [*names, *in_encoder])
    for layer, overrides in (model.per_layer_config or {}).items():
        if not str(layer).isdecimal() or not isinstance(overrides, dict):
            # the model refuses it
            continue
        # one type is that of every layer
        kind = kinds[int(layer)] if len(kinds) > int(layer) else kinds[0]
        for name in overrides.keys() - {entry.name for entry in settings_of(kind.config_class)}:
            unused[f"layer {layer} does not read {name}"] = ["per_layer_config"]
    if not model.ngram_orders:
        unused["ngram_orders is empty"] = ["ngram_vocab_size"]
    return unused


def listed(types: str | list[str]) -> list[str]:
    """One attention type, or several, as a list."""
    return [types] if isinstance(types, str) else list(types)


def _in_attention(kinds: list, in_encoder: list, names: Iterable[str]) -> Unused:
    """The settings of attention types that no layer of the decoder and no layer of the encoder reads."""
    common = {entry.name for entry in settings_of(BaseConfig)}
    of_types = {entry.name for cls in config_classes() for entry in settings_of(cls)} - common
    own = {entry.name for kind in [*kinds, *in_encoder] for entry in settings_of(kind.config_class)}
    read = {entry.name for kind in kinds for entry in settings_of(kind.config_class)}
    read -= {name for kind in kinds for name in kind.bidirectional_settings}
    of_encoder = {entry.name for kind in in_encoder for entry in settings_of(kind.config_class)}
    read |= of_encoder - {name for kind in in_encoder for name in kind.causal_settings}
    only_causal = {name for kind in in_encoder for name in kind.causal_settings} - read
    return {
        f"attention_type={', '.join(dict.fromkeys(names))} does not read it": sorted(of_types - own),
        "only an encoder reads it": sorted(own & of_types - read - only_causal),
        "only a decoder reads it": sorted(only_causal),
    }


def _in_tokenizer(tokenizer: Any) -> Unused:
    if tokenizer.tokenizer_name_or_path is not None:
        return {"no tokenizer is trained": ["tokenizer_type", "vocab_size", "answer_end"]}
    if tokenizer.tokenizer_type == "character":
        return {"tokenizer_type=character has a token for each character": ["vocab_size"]}
    return {}


def _in_training(training: Any) -> Unused:
    unused: Unused = {}
    if training.schedule.lr_scheduler_type != "assignment_cosine":
        unused["only lr_scheduler_type=assignment_cosine has cycles"] = ["lr_cycle_steps"]
    if not training.logging.with_tracking:
        unused["with_tracking is false"] = ["report_to"]
    if not training.checkpoints.save_steps:
        unused["save_steps=0 saves no checkpoint"] = ["save_total_limit"]
    if training.run.resume_from_checkpoint == "latest":
        unused["resume_from_checkpoint=latest goes on with the run in output_dir"] = ["overwrite_output_dir"]
    return unused


def _default(entry: Field) -> Any:
    return entry.default_factory() if entry.default_factory is not MISSING else entry.default
