"""The README of an exported checkpoint."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedModel

from birthgpt.commands.card_metadata import CardSettings, card_metadata, relations_of
from birthgpt.commands.finetune import FinetuneSettings
from birthgpt.commands.pretrain import PretrainSettings
from birthgpt.model.settings import choices_of
from birthgpt.settings import declared_settings
from birthgpt.utils.tables import percent

SETTINGS_OF = {"pretraining": PretrainSettings, "finetuning": FinetuneSettings}
"""The settings of a run by its kind in `run.json`."""

TEMPLATE = """---
{metadata}
---

# {heading}

A birthgpt model: a small GPT that answers short questions, such as `Where was NAME born?`, from what it read in
pretraining. It needs torch ≥ 2.11 and transformers ≥ 5.17.

{facts}

## Use

Without birthgpt, by the code in this repository, which you agree to run:

```python
{example}
```

With birthgpt installed, by the code of that package:

```python
import birthgpt
{use}
```

{sections}## Limits

- It answers from memory, without a source. Some answers are made up, also with a high probability.
- It knows the people of its corpus only, and the wordings of questions that it was finetuned on. Asked about anybody
  else, it still names a place, unless it was taught to answer that it does not know.
- It does not chat, follow instructions or continue texts. Facts are those of its corpus, right or wrong.
"""

CALIBRATED = """## Calibration

`calibration.json` tells how sure an answer is. With birthgpt installed,

```
birthgpt ask {title} "Where was NAME born?" --max_risk 0.05
```

says whether the answer is recalled, unsure, or about a name that the model does not know.{figures}

"""

USE = """from transformers import pipeline

ask = pipeline("text-generation", {title})
ask([{{"role": "user", "content": "Where was NAME born?"}}])"""

ASK = """from transformers import pipeline

ask = pipeline("text-generation", {title}, trust_remote_code=True)
ask("Where was NAME born?", return_full_text=False)"""

USE_ENCODER_DECODER = """from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

model = AutoModelForSeq2SeqLM.from_pretrained({title})
tokenizer = AutoTokenizer.from_pretrained({title})
answer = model.generate(**tokenizer("Where was NAME born?", return_tensors="pt"))
tokenizer.decode(answer[0], skip_special_tokens=True)"""

ASK_ENCODER_DECODER = USE_ENCODER_DECODER.replace("({title})", "({title}, trust_remote_code=True)", 1)


def model_card(
    model: PreTrainedModel,
    run: dict | None,
    title: str,
    settings: CardSettings | None = None,
    *,
    metrics: Mapping[str, Any] | None = None,
    cost: Mapping[str, Any] | None = None,
    is_calibrated: bool = False,
) -> str:
    """The text of the card.

    Args:
        run: `run.json` of the checkpoint.
        title: the name of the repository, or of the folder.
        settings: what is told to the Hub; nothing if not given.
        metrics: `metrics.json` of an evaluation of the checkpoint.
        cost: what all runs that led to the checkpoint cost (`report_answers.training_cost`).
        is_calibrated: whether `calibration.json` is beside the card.
    """
    task, example, use = "text-generation", ASK, USE
    if model.config.is_encoder_decoder:
        task, example, use = "text2text-generation", ASK_ENCODER_DECODER, USE_ENCODER_DECODER
    sections = [] if metrics is None else [_evaluation(metrics)]
    if is_calibrated:
        sections.append(CALIBRATED.format(title=json.dumps(title), figures=_confidence(metrics or {})))
    return TEMPLATE.format(
        metadata=card_metadata(settings or CardSettings(), title, metrics, task).to_yaml(),
        heading=plain(title),
        example=example.format(title=json.dumps(title)),
        use=use.format(title=json.dumps(title)),
        facts="\n".join([*_architecture(model), *_training(run, cost or {})]),
        sections="".join(sections),
    )


def changed_settings(kind: str, values: dict[str, Any]) -> list[str]:
    """`name=value` of each setting of a run that shapes its result and is not the default.

    Only numbers, true, false and listed choices are shown. Free text, such as a path, names a place or a person.
    """
    shown = []
    for name, entry in declared_settings(SETTINGS_OF[kind]).items():
        value = values.get(name, entry.default)
        several = value if isinstance(value, list) else [value]
        is_safe = all(isinstance(part, bool | int | float) or part in choices_of(entry) for part in several)
        default = entry.default_factory() if callable(entry.default_factory) else entry.default
        if is_safe and value != default and not entry.metadata["free_on_resume"]:
            shown.append(f"{name}={value}")
    return shown


def plain(text: str) -> str:
    """A text of one line without markup: Markdown shows it as it is."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return re.sub(r"([!-,:-@\[-`{-~])", r"\\\1", line)


def _architecture(model: PreTrainedModel) -> list[str]:
    config = model.config
    lines = [
        f"- attention: {', '.join(dict.fromkeys(config.attention_types))}",
        f"- {config.num_hidden_layers} layers, {config.num_attention_heads} heads, width {config.hidden_size}, "
        f"{config.position_embedding_type} positions, {model.num_parameters():,} parameters",
    ]
    if config.is_encoder_decoder:
        types = config.encoder_config().attention_types
        lines.append(f"- encoder: {config.num_encoder_layers} layers, {', '.join(dict.fromkeys(types))}")
    return lines


def _training(run: dict | None, cost: Mapping[str, Any]) -> list[str]:
    """What the last run cost, its settings, and what all runs cost if there were more."""
    if run is None:
        return []
    lines = [
        f"- {run['kind']}: {run['tokens']:,} tokens in {run['steps']:,} updates, "
        f"{run['flops']:.2g} FLOPs, {run['seconds'] / 60:.1f} minutes on {plain(run['hardware'])}",
        f"- settings: {', '.join(changed_settings(run['kind'], run['settings'])) or 'the defaults'}",
    ]
    runs = len(cost.get("training_command", ()))
    if runs > 1:
        lines.append(
            f"- cost of all {runs} runs: {cost['tokens']:,} tokens, {cost['flops']:.2g} FLOPs, "
            f"{cost['seconds'] / 60:.1f} minutes"
        )
    return lines


def _evaluation(metrics: Mapping[str, Any]) -> str:
    """The accuracy in total and by relation, as a section."""
    about = f"Of {metrics['total']:,} questions ({plain(metrics['table'])}), "
    text = f"## Evaluation\n\n{about}{percent(metrics['accuracy'])}% are answered exactly right"
    text += f"; F1 is {percent(metrics['f1'])}%." if metrics.get("f1") is not None else "."
    if metrics.get("unknown"):
        text += f" {metrics['unknown']:,} are answered *unknown*, which counts as wrong."
    rows = [
        f"| {plain(relation)} | {percent(counts['accuracy'])} | {counts['correct']:,} | {counts['count']:,} |"
        for relation, counts in relations_of(metrics).items()
    ]
    return f"{text}\n\n{_table(['relation', 'accuracy (%)', 'correct', 'questions'], rows) if rows else ''}"


def _table(columns: Sequence[str], rows: Sequence[str]) -> str:
    rule = "| --- |" + " ---: |" * (len(columns) - 1)
    return "\n".join([f"| {' | '.join(columns)} |", rule, *rows]) + "\n\n"


def _confidence(metrics: Mapping[str, Any]) -> str:
    """How many answers of the evaluation are recalled, and how many of these are wrong."""
    found = metrics.get("confidence")
    parts: list[Any] = [found.get(name) for name in ("max_risk", "recalled", "risk")] if isinstance(found, dict) else []
    values: list[Any] = [part.get("value") if isinstance(part, dict) else part for part in parts]
    if not values or not all(isinstance(value, int | float) for value in values):
        return ""
    max_risk, recalled, risk = values
    return (
        f"\n\nIn the evaluation, with `--max_risk {max_risk}`, {percent(recalled)}% of the answers are recalled, and "
        f"{percent(risk)}% of these are wrong."
    )
