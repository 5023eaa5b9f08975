"""The README of an exported checkpoint."""

import json
import re
from typing import Any

from huggingface_hub import ModelCardData
from transformers import PreTrainedModel

from birthgpt.commands.finetune import FinetuneSettings
from birthgpt.commands.pretrain import PretrainSettings
from birthgpt.model.settings import choices_of
from birthgpt.settings import declared_settings

SETTINGS_OF = {"pretraining": PretrainSettings, "finetuning": FinetuneSettings}
"""The settings of a run by its kind in `run.json`."""

TEMPLATE = """---
{metadata}
---

# {heading}

A birthgpt model: a small GPT that answers short questions, such as `Where was NAME born?`, from what it read in
pretraining. It needs torch ≥ 2.11 and transformers ≥ 5.17.

{metrics}

```python
{example}
```

With birthgpt installed, `import birthgpt` takes the place of `trust_remote_code=True`. The answers are
generated from memory, without a source: some are made up.
"""

ASK_DECODER = """from transformers import pipeline

ask = pipeline("text-generation", {title}, trust_remote_code=True)
ask("Where was NAME born?", return_full_text=False)"""

ASK_ENCODER_DECODER = """from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

model = AutoModelForSeq2SeqLM.from_pretrained({title}, trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained({title})
answer = model.generate(**tokenizer("Where was NAME born?", return_tensors="pt"))
tokenizer.decode(answer[0], skip_special_tokens=True)"""

CALIBRATED = """
`calibration.json` tells how sure an answer is. With birthgpt installed:

```
birthgpt ask {title} "Where was NAME born?" --max_risk 0.05
```

says whether the answer is recalled, unsure, or about a name that the model does not know.
"""


def model_card(model: PreTrainedModel, run: dict | None, title: str, *, is_calibrated: bool = False) -> str:
    """The text of the card: the architecture, the training according to `run.json`, and the use of a calibration."""
    config = model.config
    has_encoder = config.is_encoder_decoder
    task, example = ("text2text-generation", ASK_ENCODER_DECODER) if has_encoder else ("text-generation", ASK_DECODER)
    metadata = ModelCardData(library_name="transformers", pipeline_tag=task, tags=["birthgpt"])
    metrics = [
        f"- attention: {', '.join(dict.fromkeys(config.attention_types))}",
        f"- {config.num_hidden_layers} layers, {config.num_attention_heads} heads, width {config.hidden_size}, "
        f"{config.position_embedding_type} positions, {model.num_parameters():,} parameters",
    ]
    if has_encoder:
        types = config.encoder_config().attention_types
        metrics.append(f"- encoder: {config.num_encoder_layers} layers, {', '.join(dict.fromkeys(types))}")
    if run is not None:
        metrics += [
            f"- {run['kind']}: {run['tokens']:,} tokens in {run['steps']:,} updates, "
            f"{run['flops']:.2g} FLOPs, {run['seconds'] / 60:.1f} minutes on {plain(run['hardware'])}",
            f"- settings: {', '.join(changed_settings(run['kind'], run['settings'])) or 'the defaults'}",
        ]
    card = TEMPLATE.format(
        metadata=metadata.to_yaml(),
        heading=plain(title),
        example=example.format(title=json.dumps(title)),
        metrics="\n".join(metrics),
    )
    return card + (CALIBRATED.format(title=json.dumps(title)) if is_calibrated else "")


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
