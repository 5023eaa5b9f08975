"""Helpers for error messages."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LONGEST = 500
"""Characters that are shown of the beginning and of the end of a long message."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type if the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def one_line(error: BaseException) -> str:
    """An error's message for a user: in one line, without what a terminal would act on, and not endless.

    A message may repeat what a user has given, such as a whole file in a single cell.
    """
    text = str(error)
    if len(text) > 2 * LONGEST:
        text = f"{text[:LONGEST]} … {text[-LONGEST:]}"
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def failed_path(error: OSError) -> str:
    """`notes.txt: Permission denied`, for an error of the system about a path."""
    return f"{error.filename}: {error.strerror}"


@contextmanager
def naming_source(source: str) -> Iterator[None]:
    """Context in which a ValueError is about something from this file, which its message does not know."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None


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
