"""Which answers an objective can ask for: a fact that is never a span as a whole is hardly ever recalled as one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from birthgpt.data.objectives import RecallFromName
from birthgpt.data.objectives.base import line_generator

DRAWS = 16
"""How often the spans of a line are drawn. A span of probability 1/4 is missed in 1% of the cases."""


@dataclass
class Coverage:
    """How many answers can be a span of an objective, by where they are.

    Args:
        total: all questions.
        as_span: their answer is a span of a line of the person.
        other_in_line: their answer is only in the text of such a line; the questions are listed.
        not_in_line: no line of the person contains their answer, or the person has no line.
    """

    total: int = 0
    as_span: int = 0
    not_in_line: int = 0
    other_in_line: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """The fraction (0..1) of answers that can be a span."""
        return self.as_span / max(1, self.total)

    def __str__(self) -> str:
        text = (
            f"{self.as_span:,} of {self.total:,} answers ({self.ratio:.1%}) can be a span; {self.not_in_line:,} are in "
            f"no line of their person; {len(self.other_in_line):,} are in a line and never a span as a whole"
        )
        if self.other_in_line:
            first = self.other_in_line[0]
            text += f", first {first['answer']!r} ({first['question']!r})"
        return text


def answer_coverage(
    objective: RecallFromName,
    questions: Iterable[Mapping[str, Any]],
    lines_by_name: Mapping[str, Sequence[str]],
) -> Coverage:
    """Find the answers that are spans: the spans of each line are drawn several times, as in several epochs."""
    coverage = Coverage()
    for row in questions:
        coverage.total += 1
        lines = lines_by_name.get(row["name"], ()) if row["name"] else ()
        lines = [line for line in lines if row["answer"] in line]
        if not lines:
            coverage.not_in_line += 1
        elif any(_is_span(objective, row["answer"], line, row["name"]) for line in lines):
            coverage.as_span += 1
        else:
            coverage.other_in_line.append(row)
    return coverage


def _is_span(objective: RecallFromName, answer: str, line: str, name: str) -> bool:
    draws = (objective.cut(line, name, line_generator(0, draw, 0)) for draw in range(DRAWS))
    return any(span.text == answer for spans in draws for span in spans)
