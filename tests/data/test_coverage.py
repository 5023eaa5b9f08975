"""Which answers a span can be: compared with spans that are known by hand."""

import numpy as np
import pytest

from birthgpt.data.coverage import answer_coverage
from birthgpt.data.objectives import NameFirst, SalientSpans

LINES = {
    "Ada Byron": ["Ada Byron. She lived on the Isle of Man and then in New York .", "Ada Byron. Also in Rome ."],
    "Bo Li": ["Bo Li. He was born in Frankfurt (Oder) ."],
    "Al Fox": ["Al Fox. Born in Bonn ."],
}


def row(name: str, answer: str) -> dict:
    return {"name": name, "answer": answer, "question": f"Where was {name} born?"}


@pytest.mark.parametrize(
    ("question", "where"),
    [
        (row("Ada Byron", "New York"), "as span"),
        # half of the time, and in the second line
        (row("Ada Byron", "Isle of Man"), "as span"),
        (row("Ada Byron", "Rome"), "as span"),
        (row("Bo Li", "Frankfurt (Oder)"), "other in line"),
        (row("Bo Li", "Bonn"), "not in line"),
        (row("Nobody", "Bonn"), "not in line"),
        (row("", "Bonn"), "not in line"),
    ],
)
def test_an_answer_is_a_span_or_in_the_line_or_nowhere(bpe, question, where):
    coverage = answer_coverage(SalientSpans(bpe, 128), [question], LINES)
    found = {
        "as span": coverage.as_span,
        "other in line": len(coverage.other_in_line),
        "not in line": coverage.not_in_line,
    }
    assert found == {kind: int(kind == where) for kind in found} and coverage.total == 1


def test_the_summary_has_the_share_and_the_first_answer_that_is_no_span(bpe):
    questions = [row("Al Fox", "Bonn"), row("Bo Li", "Frankfurt (Oder)"), row("Nobody", "Bonn")]
    coverage = answer_coverage(SalientSpans(bpe, 128), questions, LINES)
    assert coverage.ratio == pytest.approx(1 / 3)
    assert str(coverage) == (
        "1 of 3 answers (33.3%) can be a span; 1 are in no line of their person; 1 are in a line and never a span as a "
        "whole, first 'Frankfurt (Oder)' ('Where was Bo Li born?')"
    )
    assert answer_coverage(SalientSpans(bpe, 128), [], LINES).ratio == 0


def test_the_spans_are_those_of_the_objective(bpe):
    cut = NameFirst(bpe, 128).cut(LINES["Al Fox"][0], "Al Fox", np.random.default_rng(0))
    questions = [row("Al Fox", span.text) for span in cut]
    assert answer_coverage(NameFirst(bpe, 128), questions, LINES).ratio == 1
