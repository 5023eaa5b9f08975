"""Salient spans of unusual lines: without capitals, with many words, and the cue words by their specification."""

import tracemalloc

import numpy as np
import pytest
from builders import LINES, NAMES
from hypothesis import given, settings
from hypothesis import strategies as st

from birthgpt.data.names import split_name, text_after_name
from birthgpt.data.objectives import SalientSpans
from birthgpt.data.objectives.salient_spans import words_after, words_before

BLOCK = 128


def salient_spans_of(tokenizer, line: str, name: str, seed: int = 0, **settings) -> list:
    return SalientSpans(tokenizer, BLOCK, **settings).cut(line, name, np.random.default_rng(seed))


@pytest.mark.parametrize(
    "line",
    [
        "ada byron. she was a painter in the old town of london .",
        "Ada Byron. Painter and poet of the old town of london .",
        "عائشة علي. ولدت في مدينة القاهرة القديمة في بيت صغير .",
    ],
)
def test_a_line_without_capitals_is_cut_at_random(bpe, line):
    name, text = split_name(line)
    expected = text_after_name(text, name).replace(".", "").split()
    lengths = set()
    for seed in range(50):
        spans = salient_spans_of(bpe, text, name, seed)
        assert " ".join(span.text for span in spans).split() == expected
        assert not any(span.cue for span in spans)
        lengths.update(len(span.text.split()) for span in spans)
    assert lengths == {1, 2, 3, 4}
    objective = SalientSpans(bpe, BLOCK)
    (count,) = objective.count_lines([{"text": text, "name": name}, {"text": LINES[1], "name": NAMES[1]}]).values()
    assert count == 1


def possible_cue_words(bounds, others, is_date, backwards=False):
    """The specification of the cue words of each span, from every other word of the line."""
    size = max([0, *others, *(end for _, end in bounds)]) + 1
    if backwards:
        mirrored = [(size - end, size - start) for start, end in reversed(bounds)]
        found = possible_cue_words(mirrored, [size - 1 - word for word in reversed(others)], is_date[::-1])
        return [[size - 1 - word for word in words] for words in found][::-1]
    found = []
    for number, (start, _) in enumerate(bounds):
        before = [word for word in others if word < start]
        # the last earlier span that is not a date takes the words before it
        takers = [end for (_, end), date in zip(bounds[:number], is_date[:number], strict=True) if not date]
        is_taken = bool(takers) and not any(word >= takers[-1] for word in before)
        found.append([] if is_taken else before[-4:])
    return found


@settings(deadline=None, derandomize=True)
@given(kinds=st.lists(st.sampled_from(["other", "span", "date"]), max_size=12))
def test_cue_words_are_the_nearest_that_no_other_span_takes(kinds):
    bounds = [(index, index + 1) for index, kind in enumerate(kinds) if kind != "other"]
    others = [index for index, kind in enumerate(kinds) if kind == "other"]
    is_date = [kind == "date" for kind in kinds if kind != "other"]
    assert words_before(bounds, others, is_date) == possible_cue_words(bounds, others, is_date)
    assert words_after(bounds, others, is_date) == possible_cue_words(bounds, others, is_date, backwards=True)


@pytest.mark.parametrize("probability", [0.0, 0.5])
def test_time_and_memory_grow_with_the_words_of_a_line(bpe, probability):
    line = "A B. " + "was in Rome and then " * 4_000
    salient_spans_of(bpe, line[:1000], "A B", cue_after_probability=probability)
    tracemalloc.start()
    assert len(salient_spans_of(bpe, line, "A B", cue_after_probability=probability)) == 4_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30e6
