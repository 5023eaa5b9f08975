"""Helpers for error messages."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type if the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def naming_damage(file: str | Path) -> Iterator[None]:
    """Context that uses the content of a file: any error in it becomes a ValueError of one line that names the file.

    Libraries raise errors of many types for content that they do not expect.
    """
    try:
        yield
    except Exception as error:
        # the message of a KeyError is only the key
        kind = "" if isinstance(error, OSError | ValueError | RuntimeError) else f"{type(error).__name__}: "
        raise ValueError(f"{file} cannot be used: {kind}{first_line(error)}") from None
