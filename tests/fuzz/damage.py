"""Damage to the folder of a model: to its bytes, files, values and weights."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from .mutation import VALUES, Mutation, explained, flip_bits, harmless, must_be_refused, replace_file

EXTRA_FILES = (
    *("added_tokens.json", "special_tokens_map.json", "vocab.json", "merges.txt", "chat_template.jinja"),
    *("model.safetensors.index.json", "model-00002-of-00002.safetensors", "pytorch_model.bin", "adapter_config.json"),
    *("generation_config.json", "processor_config.json", "notes.txt", "modeling_birthgpt.py", "manifest.json"),
)
CONTENTS = (b"", b"{}", b"[]", b"null", b'{"x": 1}', b"\x80\x02}q\x00.", b"{" * 3, b"import os\n", b'{"files": {}}')


def damage_folder(folder: Path, rng: random.Random, is_listed: bool) -> Mutation:
    """Damage one thing in a folder.

    Args:
        is_listed: whether a manifest lists the files; without one, a changed value cannot be told from a true one.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    # the files that say what is loaded, more often than the others
    weights = [3 if path.suffix in (".json", ".safetensors") else 1 for path in files]
    file = rng.choices(files, weights)[0]
    kinds: list[Callable[[Path, random.Random], tuple[str, bool]]] = [_bytes, _bytes, _files]
    if file.suffix == ".json":
        kinds += [_values] * 4
    if file.name == "model.safetensors":
        kinds += [_weights] * 4
    kind = rng.choice(kinds)
    text, cannot_be_seen = kind(file, rng)
    # an extra file has another name
    place = text.split()[-1] if text.startswith("extra file ") else str(file.relative_to(folder))
    # without its manifest, a folder is one whose changed values cannot be seen, and `verify` says so
    can_change = (cannot_be_seen and not is_listed) or Path(place).name == "manifest.json"
    allowed = explained() if can_change else harmless()
    return Mutation(f"{place}: {text}", allowed, (Path(place).name, str(folder)))


def _bytes(file: Path, rng: random.Random) -> tuple[str, bool]:
    content = file.read_bytes()
    kind = rng.choice(["bit", "bit", "bits", "header", "cut", "short", "empty", "tail", "zeros", "noise"])
    if kind == "bit":
        changed = flip_bits(content, rng)
    elif kind == "bits":
        changed = flip_bits(content, rng, 20)
    elif kind == "header":
        changed = flip_bits(content[:300], rng) + content[300:]
    elif kind == "cut":
        changed = content[: rng.randrange(len(content) + 1)]
    elif kind == "short":
        changed = content[:-1]
    elif kind == "empty":
        changed = b""
    elif kind == "tail":
        changed = content + rng.randbytes(rng.randrange(1, 50))
    elif kind == "zeros":
        start = rng.randrange(len(content) + 1)
        changed = content[:start] + bytes(len(content) - start)
    else:
        changed = rng.randbytes(len(content))
    file.write_bytes(changed)
    # a cut in the middle of a text, and zeros in weights, leave what can be read
    return f"bytes changed ({kind})", True


def _files(file: Path, rng: random.Random) -> tuple[str, bool]:
    kind = rng.choice(["removed", "renamed", "folder", "pipe", "loop", "link", "swapped", "extra", "extra", "device"])
    if kind == "removed":
        file.unlink()
    elif kind == "renamed":
        file.rename(file.with_name(rng.choice([file.name.upper(), f"{file.name}.bak", file.stem, "x"]) + "~"))
    elif kind == "folder":
        replace_file(file, Path.mkdir)
    elif kind == "pipe":
        replace_file(file, os.mkfifo)
    elif kind == "loop":
        replace_file(file, lambda path: path.symlink_to(path.name))
    elif kind == "device":
        replace_file(file, lambda path: path.symlink_to("/dev/zero"))
    elif kind == "link":
        replace_file(file, lambda path: path.symlink_to("missing"))
    elif kind == "swapped":
        other = rng.choice(sorted(path for path in file.parent.iterdir() if path.is_file()))
        first, second = file.read_bytes(), other.read_bytes()
        file.write_bytes(second)
        other.write_bytes(first)
        return f"swapped with {other.name}", False
    else:
        name = rng.choice(EXTRA_FILES)
        (file.parent / name).write_bytes(rng.choice(CONTENTS))
        # such files of transformers are part of a model
        return f"extra file {name}", True
    return kind, file.name in ("generation_config.json", "chat_template.jinja")


def _values(file: Path, rng: random.Random) -> tuple[str, bool]:
    content = json.loads(file.read_text(encoding="utf-8"))
    holders = list(_holders(content)) or [({}, "")]
    # deep values of a tokenizer are many
    shallow = [holder for holder in holders if holder[0] is content]
    holder, key = rng.choice(shallow if rng.random() < 0.5 and shallow else holders)
    kind = rng.choice(["value", "value", "value", "type", "swap", "removed", "renamed", "twice", "added"])
    text = f"{key!r}"
    if kind == "value":
        holder[key] = rng.choice(VALUES)
        text = f"{key!r} is {str(holder[key])[:40]!r}"
    elif kind == "type":
        holder[key] = _other_type(holder.get(key) if isinstance(holder, dict) else holder[key])
        text = f"{key!r} has another type"
    elif kind == "swap":
        other, name = rng.choice(holders)
        holder[key], other[name] = other[name], holder[key]
        text = f"{key!r} swapped with {name!r}"
    elif kind == "removed":
        del holder[key]
        text = f"{key!r} removed"
    elif kind == "renamed" and isinstance(holder, dict):
        name = str(key)[:-1] + chr(ord(str(key)[-1:] or "a") ^ 1)
        holder[name] = holder.pop(key)
        text = f"{key!r} is now {name!r}"
    elif kind == "twice" and isinstance(content, dict):
        line = json.dumps({key: rng.choice(VALUES)})[1:-1]
        file.write_text("{" + line + ", " + json.dumps(content)[1:], encoding="utf-8")
        return f"{key!r} twice", True
    elif isinstance(content, dict):
        content["surplus"] = rng.choice(VALUES)
        text = "surplus key"
    try:
        written = json.dumps(content)
    except ValueError:
        # a value that was swapped into itself
        written = "[[]]"
    file.write_text(written, encoding="utf-8")
    return text, True


def _holders(content: Any) -> list[tuple[Any, Any]]:
    """Each place of a value: the object or list that holds it, and its key or index."""
    found: list[tuple[Any, Any]] = []
    keys = content.keys() if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ()
    for key in keys:
        found += [(content, key), *_holders(content[key])]
    return found


def _other_type(value: Any) -> Any:
    if isinstance(value, bool | None):
        return str(value)
    if isinstance(value, int | float):
        return str(value)
    return [value]


def _weights(file: Path, rng: random.Random) -> tuple[str, bool]:
    weights = load_file(file)
    name = rng.choice(sorted(weights))
    kind = rng.choice(["missing", "renamed", "extra", "shape", "transposed", "nan", "half", "integers", "bool", "none"])
    tensor = weights.pop(name)
    if kind == "renamed":
        weights[f"{name}_"] = tensor
    elif kind == "extra":
        weights |= {name: tensor, f"{name}.extra": torch.ones(2)}
    elif kind == "shape":
        weights[name] = tensor.flatten()[:-1].clone()
    elif kind == "transposed":
        weights[name] = tensor.T.contiguous() if tensor.ndim == 2 else tensor[None].clone()
    elif kind == "nan":
        tensor.view(-1)[rng.randrange(tensor.numel())] = rng.choice([float("nan"), float("inf")])
        weights[name] = tensor
    elif kind == "half":
        weights[name] = tensor.half()
    elif kind == "integers":
        weights[name] = tensor.long()
    elif kind == "bool":
        weights[name] = tensor.bool()
    elif kind == "none":
        weights = {}
    save_file(weights, file, {"format": "pt"})
    # a square matrix may be transposed, and values of another type are values
    return f"weight {name}: {kind}", kind in ("transposed", "half")


def damage_input_of_convert(folder: Path, rng: random.Random) -> Mutation:
    """Damage a checkpoint of an earlier version, which has no manifest."""
    mutation = damage_folder(folder, rng, is_listed=False)
    if mutation.text.endswith(": none"):
        return Mutation(mutation.text, must_be_refused(), mutation.names)
    return mutation
