"""Which answers an objective can ask for: a fact that is never a span as a whole is hardly ever recalled as one."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from birthgpt.data.objectives import RecallFromName
from birthgpt.data.objectives.base import line_generator
from birthgpt.data.questions import UNKNOWN_RELATION, answers_of, relation_in

DRAWS = 16
"""How often the spans of a line are drawn. A span of probability 1/4 is missed in 1% of the cases."""

MEASURED = 100
"""For so many answers of each relation, it is counted how often they are asked for: this needs all draws."""


@dataclass
class Coverage:
    """How many questions have a right answer that can be a span of an objective, by where the answers are.

    Args:
        total: all questions.
        as_span: one of their answers is a span of a line of the person.
        other_in_line: their answers are only in the text of such lines; the questions are listed.
        not_in_line: no line of the person contains one of their answers, or the person has no line; listed too.
        asked: how often an epoch asks for one of the answers, for the first questions that are in `as_span`.
        by_relation: the same for each relation.
    """

    total: int = 0
    as_span: int = 0
    other_in_line: list[Mapping[str, Any]] = field(default_factory=list)
    not_in_line: list[Mapping[str, Any]] = field(default_factory=list)
    asked: list[float] = field(default_factory=list)
    by_relation: dict[str, "Coverage"] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """The fraction (0..1) of questions with an answer that can be a span."""
        return self.as_span / max(1, self.total)

    @property
    def asked_per_epoch(self) -> float | None:
        """How often an epoch asks for an answer that can be a span, in the mean; None without such an answer."""
        return sum(self.asked) / len(self.asked) if self.asked else None

    @property
    def first_never(self) -> str:
        """The first answer that is in a line and never a span as a whole, with its question; "" if there is none."""
        return first_answer(self.other_in_line)

    def __str__(self) -> str:
        text = f"{self.as_span:,} of {self.total:,} answers ({self.ratio:.1%}) can be a span"
        if self.asked:
            text += f", and an epoch asks {self.asked_per_epoch:.1f} times for each of them"
        for where, rows in (
            ("in no line of their person", self.not_in_line),
            ("in a line and never a span as a whole", self.other_in_line),
        ):
            text += f"; {len(rows):,} are {where}" + (f", first {first_answer(rows)}" if rows else "")
        return text


def first_answer(rows: Sequence[Mapping[str, Any]]) -> str:
    """The answer to the first of these questions, with the question; "" if there is none."""
    return f"{answers_of(rows[0])[0]!r} ({rows[0]['question']!r})" if rows else ""


def answer_coverage(
    objective: RecallFromName,
    questions: Iterable[Mapping[str, Any]],
    lines_by_name: Mapping[str, Sequence[str]],
) -> Coverage:
    """Find the answers that are spans: the spans of each line are drawn several times, as in several epochs.

    Any right answer is enough.
    """
    of_person: dict[str, list[Mapping[str, Any]]] = {}
    for row in questions:
        of_person.setdefault(row["name"], []).append(row)
    coverage = Coverage()
    for name, rows in of_person.items():
        # the draws of a line are the same for all questions about the person
        lines = [_DrawnLine(objective, line, name) for line in lines_by_name.get(name, ())] if name else []
        for row in rows:
            of_relation = coverage.by_relation.setdefault(relation_in(row) or UNKNOWN_RELATION, Coverage())
            _count(row, lines, (coverage, of_relation), measure=len(of_relation.asked) < MEASURED)
    return coverage


class _DrawnLine:
    """A line, whose spans are drawn when they are needed, and once."""

    def __init__(self, objective: RecallFromName, text: str, name: str):
        self.objective, self.text, self.name = objective, text, name
        self._draws: list[tuple[set[str], list[str]]] = []

    def draws(self) -> Iterator[tuple[set[str], list[str]]]:
        """For each draw, the spans that the line is cut into, and those that are asked for."""
        for number in range(DRAWS):
            if number == len(self._draws):
                generator = line_generator(0, number, 0)
                spans = self.objective.cut(self.text, self.name, generator)
                _, asked = self.objective.draw_lead(spans, generator)
                self._draws.append(({span.text for span in spans}, [span.text for span in asked]))
            yield self._draws[number]


def _count(row: Mapping[str, Any], lines: Sequence[_DrawnLine], counted: Iterable[Coverage], *, measure: bool) -> None:
    answers = answers_of(row)
    lines = [line for line in lines if any(answer in line.text for answer in answers)]
    is_span = any(not spans.isdisjoint(answers) for line in lines for spans, _ in line.draws())
    asked = [text in answers for line in lines for _, texts in line.draws() for text in texts] if measure else []
    for coverage in counted:
        coverage.total += 1
        if not lines:
            coverage.not_in_line.append(row)
        elif not is_span:
            coverage.other_in_line.append(row)
        else:
            coverage.as_span += 1
            if measure:
                coverage.asked.append(sum(asked) / DRAWS)
