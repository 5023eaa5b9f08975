"""What error messages have in common."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: object, choices: Iterable[str]) -> str:
    """`did you mean 'softmax'?`, or an empty string where no choice resembles the name."""
    nearest = get_close_matches(str(name), list(choices), n=1)
    return f"did you mean {nearest[0]!r}?" if nearest else ""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
