"""Which words of a line may be an answer: names, places, dates and, from time to time, words in lower case.

Each function draws its choices from the generator of the line. Half of the time means a new choice in every epoch.
"""

import re
from collections.abc import Sequence

import numpy as np

from birthgpt.data.objectives.recall_from_name import without_outer_punctuation

SHORT_WORD = 3
"""The most letters of a short word, such as `of`, `and` and `the`: it links other words, or stands before them."""

Bounds = tuple[int, int]
"""The first word of a span, and the word after its last."""


def is_salient(word: str) -> bool:
    """Whether a word starts with a capital or a digit, or has a capital after a hyphen or apostrophe: `al-Farabi`."""
    return word[:1].isdigit() or any(part[:1].isupper() for part in re.split("['’-]", word))


def starts_sentence(words: Sequence[str], index: int) -> bool:
    """Whether a word follows the end of a sentence.

    An abbreviation, as in `St. Louis`, `J. Smith` or `F.C.`, ends one if a short word and one in lower case follow.
    """
    if index == 0 or words[index - 1][-1] in "!?":
        return True
    before = words[index - 1]
    if before[-1] != ".":
        return False
    is_abbreviation = 1 < len(before) <= SHORT_WORD + 1 or "." in before[:-1]
    following = words[index + 1] if index + 1 < len(words) else ""
    return not is_abbreviation or (len(words[index]) <= SHORT_WORD and following[:1].islower())


def number_sentences(words: Sequence[str]) -> list[int]:
    """The number of the sentence of each word."""
    numbers: list[int] = []
    for index in range(len(words)):
        numbers.append((numbers[-1] if numbers else -1) + starts_sentence(words, index))
    return numbers


def find_salient_spans(
    words: list[str], salient: list[bool], generator: np.random.Generator, comma_probability: float = 0.0
) -> list[Bounds]:
    """Start and end of each span of salient words; a comma, semicolon, colon, bracket or a new sentence ends a span.

    Half of the time, a short word between two salient words is part of the span, as in Isle of Man. Half of the time,
    a number and the capitalised word after it are one span, as in 1936 Olympics. With `comma_probability`, a comma
    between two salient words joins them, as in `Dorton, Ohio` and `April 3, 1981`, and so does a word in brackets, as
    in `Frankfurt (Oder)`.
    """
    spans, start = [], 0
    while start < len(words):
        end = start + 1
        if salient[start]:
            while end < len(words) and not _is_drawn_end(words, end, generator):
                if words[end - 1][-1] in ",;:)" or words[end][0] == "(":
                    if not _is_joined(words, salient, end, generator, comma_probability):
                        break
                    end += 1
                elif salient[end]:
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


def find_lower_case_spans(
    words: list[str], salient: list[bool], generator: np.random.Generator, probability: float
) -> list[Bounds]:
    """Start and end of runs of longer words, not all of them salient, as `trade unionist`, each with `probability`.

    A run begins after a short word or at punctuation, because an answer in lower case rarely does otherwise. Half of
    the time, a drawn number of its first words is left out. Half of the time, a list as in `geologist, weaver and
    novelist` is one span.
    """
    spans = []
    for runs in _lists_of_runs(_runs_of_longer_words(words, salient), words):
        is_one = len(runs) > 1 and generator.random() < 0.5
        for start, end in [(runs[0][0], runs[-1][1])] if is_one else runs:
            if generator.random() < probability:
                is_trimmed = end - start > 1 and not is_one and generator.random() < 0.5
                spans.append((int(generator.integers(start, end)) if is_trimmed else start, end))
    return spans


def _lists_of_runs(runs: list[Bounds], words: list[str]) -> list[list[Bounds]]:
    """The runs in lists; most lists have one run."""
    lists: list[list[Bounds]] = []
    for start, end in runs:
        if lists and _joins(words[lists[-1][-1][1] - 1 : start]):
            lists[-1].append((start, end))
        else:
            lists.append([(start, end)])
    return lists


def _runs_of_longer_words(words: list[str], salient: list[bool]) -> list[Bounds]:
    """The runs of words that are capitalised or not short, with a last word in lower case; punctuation ends a run."""
    runs, start = [], 0
    while start < len(words):
        end = start
        while end < len(words) and _is_longer(words[end], salient[end]):
            end += 1
            if not words[end - 1][-1].isalnum():
                break
        if end > start and not salient[end - 1]:
            runs.append((start, end))
        start = max(end, start + 1)
    return runs


def text_of_span(words: list[str], bounds: Bounds, generator: np.random.Generator) -> str:
    """The words of a span without outer punctuation, except for marks that belong to the words.

    These are a closing bracket that is opened in the span and, half of the time, the full stop of an abbreviation, as
    in `F.C.` and `Washington D.C.`, a mark inside a sentence, as in `Yahoo! until`, and the apostrophe of
    `'s-Hertogenbosch`.
    """
    start, end = bounds
    whole = " ".join(words[start:end])
    text = without_outer_punctuation(whole)
    before, after = whole.split(text, 1) if text else ("", "")
    if after[:1] == ")" and "(" in text:
        text, after = text + ")", after[1:]
    last, following = words[end - 1], words[end] if end < len(words) else ""
    is_abbreviation = "." in without_outer_punctuation(last)
    if after[:1] == "." and (is_abbreviation or following[:1].islower()) and generator.random() < 0.5:
        text += "."
    elif after in ("!", "?") and following[:1].islower() and generator.random() < 0.5:
        text += after
    if before[-1:] in ("'", "’") and before[-1:] not in after and text[:1].islower() and generator.random() < 0.5:
        text = before[-1] + text
    return text


def split_some_hyphens(words: list[str], generator: np.random.Generator) -> list[str]:
    """The words; half of the time, a word such as Berlin-born, with lower case after the hyphen, becomes two words."""
    split = []
    for word in words:
        head, _, tail = word.partition("-")
        is_joined = without_outer_punctuation(head)[:1].isupper() and tail.islower()
        is_split = is_joined and generator.random() < 0.5
        split += [head, tail] if is_split else [word]
    return split


def _is_drawn_end(words: list[str], index: int, generator: np.random.Generator) -> bool:
    """Whether a word starts a sentence; half of the time after three letters: `Sgt. Pepper`, but `in Rio. Later`."""
    if starts_sentence(words, index):
        return True
    before = words[index - 1]
    return before[-1] == "." and before[:-1].isalpha() and len(before) == SHORT_WORD + 1 and generator.random() < 0.5


def _is_joined(
    words: list[str], salient: list[bool], index: int, generator: np.random.Generator, probability: float
) -> bool:
    """Whether a word is drawn to be part of the span before it, over a comma or an opening bracket."""
    before, word = words[index - 1], words[index]
    if not salient[index] or before[-1] in ";:)" or (before[-1] == "," and word[0] == "("):
        return False
    if word[0] == "(" and ")" not in word:
        return False
    # a date and a place are two answers, as in (1900, Rome)
    if before[-2:-1].isdigit() and not word[0].isdigit():
        return False
    return probability > 0 and generator.random() < probability


def _is_link(words: list[str], salient: list[bool], index: int) -> bool:
    """Whether a word is short and between two capitalised words."""
    if index + 1 == len(words) or not salient[index + 1]:
        return False
    is_short = words[index].isalpha() and len(words[index]) <= SHORT_WORD
    return is_short and words[index - 1][0].isupper() and words[index + 1][0].isupper()


def _is_longer(word: str, salient: bool) -> bool:
    """Whether a word may be part of an answer in lower case: it is not a number, not a name's possessive, not short."""
    bare = without_outer_punctuation(word)
    return bool(bare) and word[0] == bare[0] and bare.replace("-", "").isalpha() and (salient or len(bare) > SHORT_WORD)


def _joins(words: list[str]) -> bool:
    """Whether the last word of a run, and the words between it and the next run, make a list of them."""
    last, *between = words
    return (last[-1] == "," and between in ([], ["and"], ["or"])) or (
        last[-1].isalnum() and between in (["and"], ["or"])
    )
