"""What a mutation is, and which outcomes it allows."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REFUSED, SAME, CHANGED = "refused", "same", "changed"
SILENT, UNNAMED, TRACEBACK, HANG, SPOILED = "silent", "unnamed", "traceback", "hang", "spoiled"

ALLOWED = {
    REFUSED: "one line that names what was wrong, and exit code 2",
    SAME: "the result of the run without a mutation",
    CHANGED: "another result, which the mutation explains",
}
FORBIDDEN = {
    SILENT: "a result, though the mutation had to be refused",
    UNNAMED: "an error that does not name what was wrong",
    TRACEBACK: "any other exception, exit code, or more than one line",
    HANG: "no end in time",
    SPOILED: "an input has been changed",
}


@dataclass(frozen=True)
class Mutation:
    """What was done to a case.

    Args:
        text: what was done, in words.
        allowed: the classes of outcome that are right, beside `refused`.
        names: a refusal contains one of these words.
        arguments: the command line, if it was changed.
    """

    text: str
    allowed: frozenset[str]
    names: tuple[str, ...]
    arguments: tuple[str, ...] | None = None


def harmless() -> frozenset[str]:
    """It may be refused, or have no effect."""
    return frozenset({SAME})


def explained() -> frozenset[str]:
    """Another result is no surprise."""
    return frozenset({SAME, CHANGED})


def must_be_refused() -> frozenset[str]:
    """Any result is wrong."""
    return frozenset()


VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 7, 0.5, -0.5, 1e300, 10**30, math.nan, math.inf, -math.inf),
    *("", "x", "0", "../x", "\n", "\ud800", "é" * 500, [], [[]], [1], ["x", None], {}, {"x": 1}, {"": [{}]}),
)


def flip_bits(content: bytes, rng: random.Random, count: int = 1) -> bytes:
    """The content with some bits changed."""
    changed = bytearray(content)
    for _ in range(count if changed else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def replace_file(path: Path, make: Callable[[Path], None]) -> None:
    """Put something else in the place of a file."""
    path.unlink()
    make(path)
