"""Settings: fields of a dataclass with default, bounds, choices and help, declared once in the file that uses them.

The configuration of the model, the command line, `--help`, the checks of YAML files and the tables of the documentation
are derived from these declarations.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import MISSING, Field, field, fields
from difflib import get_close_matches
from functools import partial, wraps
from typing import Any, Literal, TypeVar, get_args, get_origin

from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassClassValidationError, StrictDataclassFieldValidationError

Number = float | int
MAX_SEED = 2**32 - 1
"""The largest seed that NumPy takes."""

Settings = TypeVar("Settings")


def setting(
    default: Any = MISSING,
    help: str = "",
    *,
    min: Number | None = None,
    max: Number | None = None,
    above: Number | None = None,
    below: Number | None = None,
    choices: Iterable[str] | None = None,
    on_command_line: bool = True,
    free_on_resume: bool = False,
) -> Any:
    """A dataclass field that is a setting.

    Args:
        default: the default value; without it, the setting is required. A list is copied for each instance.
        help: what the setting means, for `--help` and the documentation.
        min, max: the smallest and the largest value that is allowed; of a list, the bounds of each value. Numbers that
            are not finite are never allowed.
        above, below: bounds that are not allowed themselves.
        choices: the allowed values, if `Literal` cannot list them.
        on_command_line: whether commands take it; False if other settings decide it.
        free_on_resume: whether a resumed run may have another value, because it does not change the result.
    """
    limits = {"at least": min, "at most": max, "greater than": above, "less than": below}
    bounds = {words: limit for words, limit in limits.items() if limit is not None}
    metadata = {
        "help": help,
        "bounds": " and ".join(f"{words} {bound}" for words, bound in bounds.items()),
        "choices": tuple(choices) if choices is not None else None,
        "on_command_line": on_command_line,
        "free_on_resume": free_on_resume,
        "validator": [partial(_check_bounds, bounds=bounds), partial(_check_choice, choices=choices), _check_text],
    }
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def checked(cls: type[Settings]) -> type[Settings]:
    """Class decorator for a dataclass of settings: values are checked on construction and on assignment.

    `strict` of huggingface_hub checks types, choices and bounds, then calls every method `validate_*` of the class. A
    bad value raises a ValueError with one line: name, value, what is wrong.
    """
    # type checkers do not know the methods that `strict` adds
    made: Any = strict(cls)
    check_and_set, validate = made.__setattr__, made.validate

    def set_checked(self: Any, name: str, value: Any) -> None:
        try:
            check_and_set(self, name, value)
        except StrictDataclassFieldValidationError as error:
            raise ValueError(_what_is_wrong(made.__dataclass_fields__[name], value, error.__cause__)) from None

    # `wraps` copies the mark of `strict`: in a subclass, `strict` replaces this method only if it has the mark
    @wraps(validate)
    def validate_together(self: Any) -> None:
        try:
            validate(self)
        except StrictDataclassClassValidationError as error:
            raise ValueError(str(error.__cause__)) from None

    made.__setattr__, made.validate = set_checked, validate_together
    return made


def settings_of(cls: type) -> list[Field]:
    """The fields of a dataclass that are settings, in the order of their declaration."""
    return [entry for entry in fields(cls) if "help" in entry.metadata]


def choices_of(entry: Field) -> tuple:
    """The values that a setting may have; empty if they are not listed."""
    if entry.metadata.get("choices"):
        return entry.metadata["choices"]
    kinds = get_args(entry.type) if get_origin(entry.type) is not Literal else (entry.type,)
    return next((get_args(kind) for kind in kinds if get_origin(kind) is Literal), ())


def unknown_choice(name: str, value: object, choices: Iterable[str]) -> ValueError:
    """The error for a value that is not one of the choices."""
    hint = did_you_mean(value, choices)
    return ValueError(f"{name}={value!r} does not exist: {hint}{' ' if hint else ''}choose from {', '.join(choices)}")


def did_you_mean(name: object, choices: Iterable[str]) -> str:
    """`did you mean 'softmax'?`, or an empty string if no choice is similar to the name."""
    nearest = get_close_matches(str(name), list(choices), n=1)
    return f"did you mean {nearest[0]!r}?" if nearest else ""


def _check_bounds(value: Any, bounds: dict[str, Number]) -> None:
    for number in value if isinstance(value, list) else [value]:
        fault = _fault_of(number, bounds)
        if fault is not None:
            raise ValueError(f"{'each' if isinstance(value, list) else 'it'} must be {fault}")


def _fault_of(value: Any, bounds: dict[str, Number]) -> str | None:
    """What a number must be, if it is not; None for a number that is allowed, and for None."""
    tests: dict[str, Callable[[Number], bool]] = {
        "at least": lambda bound: value >= bound,
        "at most": lambda bound: value <= bound,
        "greater than": lambda bound: value > bound,
        "less than": lambda bound: value < bound,
    }
    if isinstance(value, float) and not math.isfinite(value):
        return "finite"
    if value is None or all(tests[words](bound) for words, bound in bounds.items()):
        return None
    return " and ".join(f"{words} {bound}" for words, bound in bounds.items())


def _check_choice(value: Any, choices: Iterable[str] | None) -> None:
    if value is not None and choices is not None and value not in choices:
        raise ValueError(f"choose from {', '.join(choices)}")


def _check_text(value: Any) -> None:
    """An empty path would be the working folder."""
    for text in value if isinstance(value, list) else [value]:
        if text == "":
            raise ValueError("it is empty: leave it out, or give a text")
        if isinstance(text, str) and "\0" in text:
            raise ValueError("it contains a null character")
        # the bytes of a command line that are not UTF-8
        if isinstance(text, str) and any("\ud800" <= character <= "\udfff" for character in text):
            raise ValueError("it is not UTF-8")


def _what_is_wrong(entry: Field, value: Any, cause: BaseException | None) -> str:
    choices = choices_of(entry)
    if choices and value not in choices:
        return str(unknown_choice(entry.name, value, choices))
    if isinstance(cause, TypeError):
        expected = getattr(entry.type, "__name__", str(entry.type))
        return f"{entry.name}={value!r}: expected {expected}, not {type(value).__name__}"
    return f"{entry.name}={value}: {cause}"
