"""Mutations of settings, on the command line and in a YAML file."""

import random
from dataclasses import Field, replace
from pathlib import Path
from typing import get_args

from birthgpt.cli import find_command
from birthgpt.model.settings import Number
from birthgpt.settings import declared_settings

from .mutation import Mutation, explained, must_be_refused

NOT_NUMBERS = ("nan", "inf", "-inf", "NaN", "1e999", "x", "", "[1]", "{a: 1}", "true", "0x10", "1;2", "\udcff", "１ ２")
ODD_NUMBERS = ("-1", "-0.5", "0", "0.0", "1e-320", "1e308", "-1e308", str(10**18), str(2**63), str(10**6), "1.5", "٣")
ODD_TEXTS = (
    "",
    "x",
    "nan",
    "-1",
    "[]",
    "{}",
    "é" * 300,
    "a\nb",
    "\udcff",
    "/dev/null",
    "..",
    "pipe",
    "*",
    "[",
    "a/b/c",
)
NOT_YAML = (
    "a: [",
    "- x",
    "x",
    "a: &a [*a]",
    "? {a: 1}",
    "a: !!python/object:os.system x",
    "\x00",
    "a: 1: 2",
    "%",
    "a:\t1",
)

WORK = {
    *("max_train_steps", "num_train_epochs", "max_train_flops", "people", "held_out", "biographies_per_person"),
    *("test_inputs", "count", "max_new_tokens", "num_beams", "dataloader_num_workers", "folds", "related_people"),
    *("invented_names",),
}
"""Settings of which a large value is only a lot of work, or of processes."""

LEFT_OUT = {"torch_compile", "overwrite_output_dir", "output_dir", "dataloader_num_workers"}
"""Settings that take long, or say what is written where."""


def mutate_setting(command: str, case: Path, arguments: list[str], rng: random.Random) -> Mutation:
    """Give a setting an odd value, on the command line or in a YAML file."""
    settings = declared_settings(find_command(command).settings)
    kind = rng.choice(
        ["value"] * 6 + ["file"] * 3 + ["unknown", "twice in a file", "no value", "damaged file", "twice"]
    )
    name = rng.choice(sorted(settings.keys() - LEFT_OUT))
    if kind == "unknown":
        typo = rng.choice([name[:-1], f"{name}x", name.replace("_", "-") + "-", name.upper(), "surplus", "é"])
        typo = typo if typo not in settings else "surplus"
        return Mutation(f"--{typo} 1", must_be_refused(), (typo, "--"), (*arguments, f"--{typo}", "1"))
    if kind == "no value":
        return Mutation(f"--{name} without value", explained(), (name,), (*arguments, f"--{name}"))
    if kind == "damaged file":
        text = rng.choice(NOT_YAML)
        return _in_file(case, text, arguments, name, must_be_refused(), text)
    value, allowed = _value(settings[name], rng)
    if kind == "twice in a file":
        return _in_file(case, f"{name}: 1\n{name}: 1\n", arguments, name, must_be_refused(), f"{name} twice in a file")
    if kind == "twice":
        given = [f"--{name}", "1", f"--{name}={value}"]
        return Mutation(f"{' '.join(given)}", explained(), (name, value or name), (*arguments, *given))
    if kind == "file":
        given = _without(arguments, name)
        # a value in a file is text, so that it is read like on the command line
        text = f"{name}: {_quoted(value)}\n"
        mutation = _in_file(case, text, given, name, allowed, text.strip())
        return replace(mutation, names=(*mutation.names, value or name))
    text = f"--{name}={value}" if rng.random() < 0.5 or value.startswith("-") else f"--{name} {value}"
    flag = [f"--{name}={value}"] if text.startswith(f"--{name}=") else [f"--{name}", value]
    return Mutation(text, allowed, (name, value or name), (*arguments, *flag))


def _value(entry: Field, rng: random.Random) -> tuple[str, frozenset[str]]:
    """An odd value of a setting, and what may come of it."""
    kinds = set(get_args(entry.type) or (entry.type,)) - {type(None)}
    is_list = any("list" in str(kind) for kind in kinds)
    if kinds <= {int, float, Number} and not is_list:
        if rng.random() < 0.5:
            return rng.choice(NOT_NUMBERS), must_be_refused()
        value = rng.choice(ODD_NUMBERS)
        if entry.name in WORK and float(value) > 1000:
            value = "-7"
        return value, explained()
    if kinds == {bool}:
        return rng.choice(["x", "2", "nan", "", "maybe", "[]", "-1"]), must_be_refused()
    return rng.choice(ODD_TEXTS + NOT_NUMBERS + ODD_NUMBERS[:4]), explained()


def _in_file(
    case: Path, text: str, arguments: list[str], name: str, allowed: frozenset[str], description: str
) -> Mutation:
    file = case / "settings.yaml"
    file.write_text(text, encoding="utf-8", errors="surrogateescape")
    given = (*arguments, "--config", str(file))
    return Mutation(f"YAML {description[:60]!r}", allowed, (name, file.name), given)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"' if value.strip() != value or not value or value[0] in "{[*&!%-#é٣/." else value


def _without(arguments: list[str], name: str) -> list[str]:
    """The command line without a setting, which is in the file."""
    if f"--{name}" not in arguments:
        return arguments
    place = arguments.index(f"--{name}")
    end = place + 1
    while end < len(arguments) and not arguments[end].startswith("--"):
        end += 1
    return arguments[:place] + arguments[end:]
