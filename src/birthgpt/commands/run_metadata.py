"""`run.json`: how a checkpoint was trained."""

import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import PartialState

from birthgpt.settings import flatten_settings
from birthgpt.training.manifest import RUN, add_to_manifest
from birthgpt.training.state import TrainingSummary
from birthgpt.utils.environment import environment_info
from birthgpt.utils.files import read_json, save_json
from birthgpt.utils.folders import record_files
from birthgpt.utils.tables import text_table

RUN_METADATA = "run.json"


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _has_origin(settings: Any) -> bool:
    return isinstance(settings, dict) and isinstance(settings.get("model_name_or_path"), str | None)


READ_FROM_METADATA: dict[str, Callable[[Any], bool]] = {
    "kind": ("pretraining", "finetuning").__contains__,
    **dict.fromkeys(("command", "hardware"), _is_text),
    **dict.fromkeys(("seed", "steps", "parameters"), _is_count),
    **dict.fromkeys(("tokens", "flops", "seconds", "target_ratio"), _is_positive),
    "settings": _has_origin,
}
"""What metrics and model cards take from `run.json`, and whether a value can be right."""


def save_run_metadata(folder: Path, kind: str, settings: Any, summary: TrainingSummary, **changed: Any) -> None:
    """Write `run.json`: settings, summary, command, hardware, versions and date.

    Args:
        folder: the folder of the checkpoint.
        kind: `pretraining` or `finetuning`.
        settings: the settings of the command; `changed` replaces some of them by name.
        summary: the summary of the training.
    """
    values = flatten_settings(settings) | changed
    metadata = {"kind": kind, **asdict(summary), **environment_info(), "seed": values["seed"], "settings": values}
    record_files(folder, RUN, [RUN_METADATA])
    save_json(folder / RUN_METADATA, metadata)
    add_to_manifest(folder, RUN_METADATA)


def read_run_metadata(checkpoint: str | Path) -> dict[str, Any] | None:
    """The content of `run.json`, or None if the folder has none.

    Raises:
        ValueError: it is damaged, or was written by an earlier version.
    """
    file = Path(checkpoint) / RUN_METADATA
    if not file.is_file():
        return None
    metadata = read_json(file)
    if "target_share" in metadata:
        raise ValueError(f"{file} was written by an earlier version: run `birthgpt convert {checkpoint}`")
    for name, is_right in READ_FROM_METADATA.items():
        value = metadata.get(name)
        if not is_right(value):
            raise ValueError(f"{file} is damaged: {name} is {value!r}")
    return metadata


SUMMARY_COLUMNS = ("steps", "tokens", "target_ratio", "parameters", "flops", "seconds", "tokens_per_second", "loss")


def show_summary(summary: TrainingSummary | None) -> None:
    """Print the summary of a training as a table of one row, on the main process; nothing after a dry run."""
    if summary is not None and PartialState().is_main_process:
        print(text_table([asdict(summary)], SUMMARY_COLUMNS))
