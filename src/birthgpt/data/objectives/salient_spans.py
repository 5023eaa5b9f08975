"""Salient spans: names, places and dates, from the name of the line and mostly with a cue."""

from dataclasses import dataclass

import numpy as np

from birthgpt.data.objectives.recall_from_name import (
    RecallFromName,
    Span,
    without_outer_punctuation,
    words_after_name,
)
from birthgpt.settings import Number, checked, setting


@checked
@dataclass
class SalientSpans(RecallFromName):
    """The spans are those that start with a capital or a digit (salient span masking: Guu et al., 2002.08909).

    Names, places and dates are what the line of a person says of nobody else. A cue consists of one to three of the
    nearest other words before the span, in small letters. A question uses just such words, so facts are stored by
    their role. A cue leads to the first span after it, and dates do not count: in `born 4 May 1900, Berlin, Germany`,
    `born` is a cue of the date and of Berlin, but not of Germany. A span has a cue, if there is one, with
    `cue_probability`. Spans that only repeat words of the name are not recalled. A line without salient spans has no
    example.

    Where a span has such words before and after it, the cue comes from after it with `cue_after_probability`, as in
    `Berlin is the birthplace of`; where it has them only after it, always. Then `Berlin-born` is read as two words half
    of the time, and the first word of a sentence, which always has a capital, counts as salient half of the time.
    """

    cue_probability: Number = setting(0.8, "salient_spans: probability that a span has a cue", min=0, max=1)
    cue_after_probability: Number = setting(
        0.0,
        "salient_spans: probability of taking the cue from after the span where both sides have one",
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
        salient = [word[:1].isupper() or word[:1].isdigit() for word in bare]
        # the first word of a sentence always has a capital
        if words and bare[0] not in in_name:
            salient[0] = salient[0] and self.cue_after_probability > 0 and generator.random() < 0.5
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

    def draw_cue(self, before: list[int], after: list[int], generator: np.random.Generator) -> list[int]:
        """One to three of the four nearest words on one side, in order; none where the span has no cue.

        Args:
            before, after: indices of the words that lead to the span from either side, the nearest last.
        """
        if not (before or after) or generator.random() >= self.cue_probability:
            return []
        is_after = after and (not before or generator.random() < self.cue_after_probability)
        leading = after if is_after else before
        count = generator.integers(1, min(3, len(leading)), endpoint=True)
        near = leading[-(count + 1) :]
        return sorted(near[index] for index in generator.choice(len(near), size=count, replace=False))


def split_some_hyphens(words: list[str], generator: np.random.Generator) -> list[str]:
    """The words; half of the time, one that continues in small letters after a hyphen, as Berlin-born, is two."""
    split = []
    for word in words:
        head, _, tail = word.partition("-")
        is_joined = without_outer_punctuation(head)[:1].isupper() and tail.islower()
        is_split = is_joined and generator.random() < 0.5
        split += [head, tail] if is_split else [word]
    return split


def words_before(bounds: list[tuple[int, int]], others: list[int], is_date: list[bool]) -> list[list[int]]:
    """For each span, the other words before it, the nearest last; none where an earlier span takes them.

    Args:
        bounds: start and end of each span.
        others: indices of the words that are not salient.
        is_date: whether each span is a date, which takes no words from others.
    """
    leading, previous_end, are_free = [], 0, True
    for (start, end), date in zip(bounds, is_date, strict=True):
        before = [index for index in others if index < start]
        are_free = are_free or any(index >= previous_end for index in before)
        leading.append(before if are_free else [])
        are_free, previous_end = are_free and date, end
    return leading


def words_after(bounds: list[tuple[int, int]], others: list[int], is_date: list[bool]) -> list[list[int]]:
    """The same for the words after each span."""
    leading, next_start, are_free = [], 0, True
    for (start, end), date in zip(reversed(bounds), reversed(is_date), strict=True):
        after = [index for index in reversed(others) if index >= end]
        are_free = are_free or any(index < next_start for index in after)
        leading.append(after if are_free else [])
        are_free, next_start = are_free and date, start
    return leading[::-1]


def find_salient_spans(words: list[str], salient: list[bool], generator: np.random.Generator) -> list[tuple[int, int]]:
    """Start and end of each span of salient words, up to a comma, semicolon, colon or bracket.

    Half of the time, a short word between two of them is part of the span, as in Isle of Man, and a number and the
    capital after it are one span, as in 1936 Olympics.
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
    """Whether a word of at most three letters is between two capitals."""
    if index + 1 == len(words) or not salient[index + 1]:
        return False
    is_short = words[index].isalpha() and len(words[index]) <= 3
    return is_short and words[index - 1][0].isupper() and words[index + 1][0].isupper()
