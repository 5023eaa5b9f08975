"""Which answers a span can be: compared with spans that are known by hand."""

import numpy as np
import pytest
from builders import CAPITALS

from birthgpt.commands.data_report import coverage_by_relation
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
    coverage = answer_coverage(SalientSpans(bpe, 128, **CAPITALS), [question], LINES)
    found = {
        "as span": coverage.as_span,
        "other in line": len(coverage.other_in_line),
        "not in line": len(coverage.not_in_line),
    }
    assert found == {kind: int(kind == where) for kind in found} and coverage.total == 1


def test_the_summary_has_the_share_and_the_first_answer_that_is_no_span(bpe):
    questions = [row("Al Fox", "Bonn"), row("Bo Li", "Frankfurt (Oder)"), row("Nobody", "Bonn")]
    coverage = answer_coverage(SalientSpans(bpe, 128, **CAPITALS), questions, LINES)
    assert coverage.ratio == pytest.approx(1 / 3)
    # `Born in Bonn` is one span from time to time
    assert 0 < coverage.asked_per_epoch < 1
    assert str(coverage) == (
        f"1 of 3 answers (33.3%) can be a span, and an epoch asks {coverage.asked_per_epoch:.1f} times for each of "
        "them; 1 are in no line of their person, first 'Bonn' ('Where was Nobody born?'); 1 are in a line and never a "
        "span as a whole, first 'Frankfurt (Oder)' ('Where was Bo Li born?')"
    )
    nothing = answer_coverage(SalientSpans(bpe, 128, **CAPITALS), [], LINES)
    assert nothing.ratio == 0 and str(nothing).startswith("0 of 0 answers (0.0%) can be a span; ")


def test_any_right_answer_is_enough(bpe):
    question = row("Bo Li", "Hesse") | {"answers": ["Hesse", "Frankfurt"]}
    # the first answer is in no line; the second is a part of a word of the line, and a span of the other question
    assert answer_coverage(SalientSpans(bpe, 128, **CAPITALS), [question], LINES).as_span == 1
    never = question | {"answers": ["Hesse", "Frankfurt (Oder)"]}
    assert answer_coverage(SalientSpans(bpe, 128, **CAPITALS), [never], LINES).other_in_line == [never]


def test_each_relation_has_its_own_share_and_the_total_is_their_sum(bpe):
    questions = [
        row("Al Fox", "Bonn") | {"relation": "home"},
        row("Bo Li", "Frankfurt (Oder)") | {"relation": "home"},
        row("Bo Li", "born") | {"relation": "verb"},
        {"name": "", "question": "Who?", "answer": "Al"},
    ]
    coverage = answer_coverage(SalientSpans(bpe, 128, **CAPITALS), questions, LINES)
    assert {relation: part.ratio for relation, part in coverage.by_relation.items()} == {
        "home": 0.5,
        "verb": 0,
        "unknown": 0,
    }
    assert coverage.by_relation["verb"].first_never == "'born' ('Where was Bo Li born?')"
    parts = coverage.by_relation.values()
    for count in ("total", "as_span"):
        assert getattr(coverage, count) == sum(getattr(part, count) for part in parts)
    assert coverage.not_in_line == [question for part in parts for question in part.not_in_line]
    table = coverage_by_relation(coverage).splitlines()
    assert table[0].split() == "relation can be a span (%) n asked in an epoch in a line and never a span".split()
    assert table[2].split() == [
        "home",
        "50.0",
        "2",
        f"{coverage.asked_per_epoch:.1f}",
        *"'Frankfurt (Oder)' ('Where was Bo Li born?')".split(),
    ]
    assert table[4].split() == ["unknown", "0.0", "1", "–", "–"]


@pytest.mark.parametrize("settings", [{}, {"cue_before_name_probability": 0.9, "cue_probability": 0.5}])
def test_how_often_an_answer_is_asked_for_is_counted_in_the_examples_of_epochs(bpe, settings):
    """The reference draws whole examples, decodes their targets, and counts those that are the answer."""
    line, name, epochs = LINES["Ada Byron"][0], "Ada Byron", 2000
    objective = SalientSpans(bpe, 128, objective_layout="unrolled", **CAPITALS | settings)
    answers = ["New York", "Isle of Man", "Man"]
    counts = dict.fromkeys(answers, 0)
    for epoch in range(epochs):
        examples = objective({"line_id": [0], "name": [name], "text": [line]}, seed=1, epoch=epoch)
        for labels in examples["shift_labels"]:
            target = bpe.decode([label for label in labels if label >= 0][:-1]).strip()
            if target in counts:
                counts[target] += 1
    for answer in answers:
        measured = answer_coverage(objective, [row(name, answer)], {name: [line]}).asked_per_epoch
        # five standard deviations of a mean over 16 draws
        assert measured == pytest.approx(counts[answer] / epochs, abs=5 * 0.5 / 4)


def test_the_spans_are_those_of_the_objective(bpe):
    cut = NameFirst(bpe, 128).cut(LINES["Al Fox"][0], "Al Fox", np.random.default_rng(0))
    questions = [row("Al Fox", span.text) for span in cut]
    assert answer_coverage(NameFirst(bpe, 128), questions, LINES).ratio == 1
