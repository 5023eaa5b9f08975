"""Tables: units, alignment, missing values."""

import pytest

from birthgpt.utils.tables import magnitude, markdown_table, percent, text_table


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.0k"),
        (3_323_392, "3.3M"),
        (999_949, "999.9k"),
        (999_960, "1.0M"),
        (2e9, "2.0B"),
    ],
)
def test_counts_are_rounded_to_a_thousand_a_million_or_a_billion(count, text):
    assert magnitude(count) == text


def test_a_ratio_is_shown_in_percent():
    assert [percent(ratio) for ratio in (0, 0.614, 1)] == ["0.0", "61.4", "100.0"]


def test_a_markdown_table_has_headings_and_units_for_known_keys():
    rows = [
        {"name": "a|b", "accuracy": 0.614, "seconds": 90, "kind": "x"},
        {"name": "c\nd", "accuracy": None},
    ]
    assert markdown_table(rows, ["name", "accuracy", "seconds", "kind"]).splitlines() == [
        "| name | accuracy (%) | minutes | kind |",
        "| --- | ---: | ---: | --- |",
        r"| a\|b | 61.4 | 1.5 | x |",
        "| c d | – | – | – |",
    ]


def test_a_text_table_aligns_words_left_and_numbers_right():
    rows = [{"name": "softmax", "accuracy": 0.05, "total": 1500}, {"name": "a", "accuracy": 1.0}]
    assert text_table(rows, ["name", "accuracy", "total"]).splitlines() == [
        "name     accuracy (%)      n",
        "-------  ------------  -----",
        "softmax           5.0  1,500",
        "a               100.0      –",
    ]
