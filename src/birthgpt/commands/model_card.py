"""The README of an exported checkpoint."""

from huggingface_hub import ModelCardData
from transformers import PreTrainedModel

TEMPLATE = """---
{metadata}
---

# {title}

A birthgpt model: a small GPT that answers short questions, such as `Where was NAME born?`, from what it read in
pretraining. It needs torch ≥ 2.11 and transformers ≥ 5.17.

{metrics}

```python
from transformers import pipeline

ask = pipeline("text-generation", "{title}", trust_remote_code=True)
ask("Where was NAME born?", return_full_text=False)
```

With birthgpt installed, `import birthgpt` takes the place of `trust_remote_code=True`. The answers are
generated from memory, without a source: some are made up.
"""


def model_card(model: PreTrainedModel, run: dict | None, title: str) -> str:
    """The text of the card: the architecture, and the training according to `run.json`."""
    config = model.config
    metadata = ModelCardData(library_name="transformers", pipeline_tag="text-generation", tags=["birthgpt"])
    metrics = [
        f"- attention: {', '.join(dict.fromkeys(config.attention_types))}",
        f"- {config.num_hidden_layers} layers, {config.num_attention_heads} heads, width {config.hidden_size}, "
        f"{config.position_embedding_type} positions, {model.num_parameters():,} parameters",
    ]
    if run is not None:
        metrics += [
            f"- {run['kind']}: {run['tokens']:,} tokens in {run['steps']:,} updates, "
            f"{run['flops']:.2g} FLOPs, {run['seconds'] / 60:.1f} minutes on {run['hardware']}",
            f"- command: `{run['command']}`",
        ]
    return TEMPLATE.format(metadata=metadata.to_yaml(), title=title, metrics="\n".join(metrics))
