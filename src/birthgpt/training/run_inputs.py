"""What must be the same when a run goes on: its settings, and fingerprints of its data and its tokenizer."""

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from transformers import PreTrainedTokenizerBase

from birthgpt.settings import declared_settings, flatten_settings
from birthgpt.utils.files import existing_paths, read_json

logger = logging.getLogger(__name__)

SETTINGS_FILE = "settings.json"
INPUTS_FILE = "inputs.json"
SAMPLES, SAMPLE_BYTES = 64, 1 << 20

Inputs = Mapping[str, str | None]
"""A fingerprint for each setting that names data, and for `tokenizer`; None if it is not used or not known."""


def fingerprint_data(rows: datasets.Dataset | datasets.IterableDataset | None, source: str | None) -> str | None:
    """The SHA-256 of all rows; of a stream, that of its files (`fingerprint_files`)."""
    if rows is None:
        return None
    if isinstance(rows, datasets.IterableDataset):
        return fingerprint_files(source)
    digest = hashlib.sha256()
    for batch in rows.iter(batch_size=10_000):
        digest.update(json.dumps(batch, sort_keys=True).encode())
    return digest.hexdigest()


def fingerprint_files(source: str | None) -> str | None:
    """The SHA-256 of the sizes and contents of files; None if there is none, such as for a name on the Hub.

    A file of more than 64 MiB is read at 64 places of 1 MiB: a stream may be larger than what can be read twice.
    """
    files = sorted({path for path in existing_paths(source) if path.is_file()})
    if not files:
        return None
    digest = hashlib.sha256()
    for path in files:
        size = path.stat().st_size
        digest.update(f"{size},".encode())
        with path.open("rb") as file:
            for number in range(SAMPLES):
                # from the beginning to the end; pieces of small files overlap
                file.seek(max(0, size - SAMPLE_BYTES) * number // (SAMPLES - 1))
                digest.update(file.read(SAMPLE_BYTES))
                if size <= SAMPLE_BYTES:
                    break
    return digest.hexdigest()


def fingerprint_tokenizer(tokenizer: PreTrainedTokenizerBase) -> str:
    """The SHA-256 of everything that decides which tokens a text has."""
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    content = json.loads(backend.to_str()) if backend is not None else {"vocab": tokenizer.get_vocab()}
    # the last call changes these
    content |= {"padding": None, "truncation": None}
    content["special"] = [tokenizer.pad_token, tokenizer.mask_token, tokenizer.eos_token]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def check_same_settings(folder: Path, settings: Any) -> None:
    """Raise ValueError if the run in this folder started with another value of a setting that changes the result."""
    if not (folder / SETTINGS_FILE).is_file():
        logger.warning("%s does not contain the settings of its run: make sure that they are the same", folder)
        return
    begun = read_json(folder / SETTINGS_FILE)
    declared = declared_settings(type(settings))
    for name, value in flatten_settings(settings).items():
        before = begun.get(name, value)
        if before != value and not declared[name].metadata["free_on_resume"]:
            raise ValueError(
                f"{folder} was started with {name}={before}, not {value}: give the same settings, or start another run "
                "in its own output_dir"
            )


def check_same_inputs(folder: Path, inputs: Inputs) -> None:
    """Raise ValueError if the run in this folder was started with other data or another tokenizer."""
    if not inputs:
        return
    if not (folder / INPUTS_FILE).is_file():
        logger.warning("%s does not contain the fingerprints of its data: make sure that they are the same", folder)
        return
    begun = read_json(folder / INPUTS_FILE)
    for name, value in inputs.items():
        if begun.get(name, value) != value:
            raise ValueError(
                f"{folder} was started with another content of {name}: bring back the old one, or start another run in "
                "its own output_dir"
            )


def check_inputs_of_processes(inputs: Inputs, accelerator: Accelerator) -> None:
    """Raise ValueError on every process unless all of them read the same; machines have disks of their own."""
    (of_main,) = broadcast_object_list([dict(inputs)])
    mine = [name for name, value in inputs.items() if value != of_main[name]]
    for process, names in enumerate(gather_object([mine])):
        if names:
            raise ValueError(f"process {process} reads another content of {', '.join(names)} than the main process")
