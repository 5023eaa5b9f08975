"""Questions about invented names, in the wordings of other questions."""

from collections.abc import Iterable, Sequence
from typing import Any

from birthgpt.data.names import relation_of
from birthgpt.data.unknown_names import Part, UnknownNames
from birthgpt.evaluation.wordings import NAME


def invented_questions(
    names: Iterable[str], rows: Sequence[dict[str, Any]], count: int, part: Part, seed: int = 0
) -> list[str]:
    """`count` questions about names that no line has; none if no question has a known name.

    The wordings are those of the rows, in turns.

    Args:
        names: the names of the corpus.
        rows: questions with their names; these names are not invented either.
        part: calibration or measurement, which have no name in common.

    Raises:
        ValueError: no names can be made of those of the corpus.
    """
    wordings = [relation_of(row["question"], row["name"]) for row in rows if row.get("name")]
    if not wordings or not count:
        return []
    asked = [row["name"] for row in rows if row.get("name")]
    invented = UnknownNames(names, part=part, excluded=asked).sample(count, seed)
    return [wordings[index % len(wordings)].replace(NAME, unknown.name) for index, unknown in enumerate(invented)]
