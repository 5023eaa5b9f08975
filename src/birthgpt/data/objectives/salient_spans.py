"""Salient spans: names, places and dates are recalled from the name of the line, usually with a cue."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from birthgpt.data.objectives.recall_from_name import (
    RecallFromName,
    Span,
    cut_at_random,
    without_outer_punctuation,
    words_after_name,
)
from birthgpt.settings import Number, checked, setting

NEAREST_WORDS = 4
"""A cue is drawn from so many words beside its span."""

MAX_RANDOM_WORDS = 4
"""Words in the longest span of a line without salient words."""


@checked
@dataclass
class SalientSpans(RecallFromName):
    """The spans are the words that start with a capital or a digit (salient span masking: Guu et al., 2002.08909).

    Names, places and dates are what distinguishes the line of a person from other lines. A cue is one to three of the
    nearest other words before the span, in lower case. A question contains such words too, so a fact is stored with
    its role. Only the first span after such words has a cue, and dates do not count: in `born 4 May 1900, Berlin,
    Germany`, `born` is a cue of the date and of Berlin, but not of Germany. The cue is used with `cue_probability`.
    Spans that only repeat words of the name are not recalled: a line with no other spans has no example. A line in
    which no word has a capital or a digit, as in a script without capitals, is cut at random into spans of one to four
    words without cues.

    If `cue_after_probability` is positive, a cue may also be after its span, as in `Berlin is the birthplace of`. If a
    span has such words on both sides, the cue is after it with this probability. If it has them only after it, the cue
    is always after it. In this case, half of the time, `Berlin-born` is read as two words, and half of the time, the
    first word of the text, which always has a capital, is salient.
    """

    cue_probability: Number = setting(0.8, "salient_spans: probability that a span has a cue", min=0, max=1)
    cue_after_probability: Number = setting(
        0.0,
        "salient_spans: probability that the cue is after the span, if both sides have one",
        min=0,
        max=1,
    )

    def cut(self, text: str, name: str, generator: np.random.Generator) -> list[Span]:
        """The salient spans after the name, in order, with the cues drawn for them."""
        words = words_after_name(text, name)
        if self.cue_after_probability:
            words = split_some_hyphens(words, generator)
        bare = [without_outer_punctuation(word) for word in words]
        in_name = {without_outer_punctuation(word) for word in name.split()}
        salient = list(map(is_salient, bare))
        # the first word always has a capital
        if words and bare[0] not in in_name:
            salient[0] = salient[0] and self.cue_after_probability > 0 and generator.random() < 0.5
        if not any(salient):
            return cut_at_random(words, MAX_RANDOM_WORDS, generator)
        bounds = find_salient_spans(words, salient, generator)
        texts = [without_outer_punctuation(" ".join(words[start:end])) for start, end in bounds]
        others = [index for index, word in enumerate(bare) if word and not salient[index]]
        is_date = [any(map(str.isdigit, text)) for text in texts]
        before = words_before(bounds, others, is_date)
        after = words_after(bounds, others, is_date) if self.cue_after_probability else [[]] * len(bounds)
        spans = []
        for index, span in enumerate(texts):
            if span and not in_name.issuperset(map(without_outer_punctuation, span.split())):
                cue = self.draw_cue(before[index], after[index], generator)
                spans.append(Span(span, " ".join(bare[word].lower() for word in cue)))
        return spans

    def count_lines(self, lines: Iterable[Mapping[str, Any]]) -> dict[str, int]:
        """The lines with a name that are cut at random."""
        count = sum(bool(line["name"]) and not has_salient_word(line["text"], line["name"]) for line in lines)
        return {"have no word with a capital or a digit: their spans are cut at random": count}

    def draw_cue(self, before: list[int], after: list[int], generator: np.random.Generator) -> list[int]:
        """One to three of the four nearest words on one side, in order; empty if the span gets no cue.

        Args:
            before, after: indices of the possible cue words on each side of the span, the nearest last.
        """
        if not (before or after) or generator.random() >= self.cue_probability:
            return []
        is_after = after and (not before or generator.random() < self.cue_after_probability)
        leading = after if is_after else before
        count = generator.integers(1, min(3, len(leading)), endpoint=True)
        near = leading[-(count + 1) :]
        return sorted(near[index] for index in generator.choice(len(near), size=count, replace=False))


def is_salient(word: str) -> bool:
    """Whether a word starts with a capital or a digit."""
    return word[:1].isupper() or word[:1].isdigit()


def has_salient_word(text: str, name: str) -> bool:
    """Whether a word after the name is salient; the first one, which always has a capital, only if in the name."""
    first, *others = map(without_outer_punctuation, words_after_name(text, name) or [""])
    in_name = {without_outer_punctuation(word) for word in name.split()}
    return (first in in_name and is_salient(first)) or any(map(is_salient, others))


def split_some_hyphens(words: list[str], generator: np.random.Generator) -> list[str]:
    """The words; half of the time, a word such as Berlin-born, with lower case after the hyphen, becomes two words."""
    split = []
    for word in words:
        head, _, tail = word.partition("-")
        is_joined = without_outer_punctuation(head)[:1].isupper() and tail.islower()
        is_split = is_joined and generator.random() < 0.5
        split += [head, tail] if is_split else [word]
    return split


def words_before(bounds: list[tuple[int, int]], others: list[int], is_date: list[bool]) -> list[list[int]]:
    """For each span, up to four possible cue words before it, the nearest last; empty if an earlier span takes them.

    Args:
        bounds: start and end of each span.
        others: indices of the words that are not salient, in order.
        is_date: whether each span is a date, which takes no words from other spans.
    """
    leading, previous_end, are_free = [], 0, True
    for (start, end), date in zip(bounds, is_date, strict=True):
        last = bisect_left(others, start)
        before = others[max(0, last - NEAREST_WORDS) : last]
        are_free = are_free or bool(before and before[-1] >= previous_end)
        leading.append(before if are_free else [])
        are_free, previous_end = are_free and date, end
    return leading


def words_after(bounds: list[tuple[int, int]], others: list[int], is_date: list[bool]) -> list[list[int]]:
    """For each span, the possible cue words after it, as in `words_before`."""
    leading, next_start, are_free = [], 0, True
    for (start, end), date in zip(reversed(bounds), reversed(is_date), strict=True):
        first = bisect_left(others, end)
        after = others[first : first + NEAREST_WORDS][::-1]
        are_free = are_free or bool(after and after[-1] < next_start)
        leading.append(after if are_free else [])
        are_free, next_start = are_free and date, start
    return leading[::-1]


def find_salient_spans(words: list[str], salient: list[bool], generator: np.random.Generator) -> list[tuple[int, int]]:
    """Start and end of each span of salient words; a comma, semicolon, colon or bracket ends a span.

    Half of the time, a short word between two salient words is part of the span, as in Isle of Man. Half of the time,
    a number and the capitalised word after it are one span, as in 1936 Olympics.
    """
    spans, start = [], 0
    while start < len(words):
        end = start + 1
        if salient[start]:
            while end < len(words) and words[end - 1][-1] not in ",;:)" and words[end][0] != "(":
                if salient[end]:
                    if words[end - 1].isdigit() and not words[end][0].isdigit() and generator.random() < 0.5:
                        break
                    end += 1
                elif _is_link(words, salient, end) and generator.random() < 0.5:
                    end += 2
                else:
                    break
            spans.append((start, end))
        start = end
    return spans


def _is_link(words: list[str], salient: list[bool], index: int) -> bool:
    """Whether a word has at most three letters and is between two capitalised words."""
    if index + 1 == len(words) or not salient[index + 1]:
        return False
    is_short = words[index].isalpha() and len(words[index]) <= 3
    return is_short and words[index - 1][0].isupper() and words[index + 1][0].isupper()
