"""Which words of a line may be an answer, and where its sentences end: names, places, dates and numbers.

Each function draws its choices from the generator of the line. Half of the time means a new choice in every epoch.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from birthgpt.data.objectives.recall_from_name import without_outer_punctuation

SHORT_WORD = 3
"""The most letters of a short word, such as `of`, `and` and `the`: it links other words, or stands before them."""

DASHES = "-–—"
_DASH_BEFORE_WORD = re.compile(r"(?:--+|[–—])(?=\w)")

BRACKET, DASH = "(", "-"
MARKS = (BRACKET, DASH)
"""The marks that tell what follows them, as `split_marks` writes them."""

CURRENCIES, PERCENT = "$£€¥", "%‰°"
"""The signs before a number, and after one, that belong to it."""

Bounds = tuple[int, int]
"""The first word of a span, and the word after its last."""


# the words of a line stay the same in every epoch
@lru_cache(maxsize=100_000)
def is_salient(word: str) -> bool:
    """Whether a word starts with a capital or a digit, or has a capital after a hyphen or apostrophe: `al-Farabi`."""
    return word[:1].isdigit() or any(part[:1].isupper() for part in re.split("['’-]", word))


def starts_sentence(words: Sequence[str], index: int, name: Sequence[str] = ()) -> bool:
    """Whether a word follows the end of a sentence.

    An abbreviation, as in `St. Louis`, `J. Smith` or `F.C.`, ends one if a short word and one in lower case follow, or
    the name of the line.
    """
    if index == 0 or words[index - 1][-1] in "!?":
        return True
    before = words[index - 1]
    if before[-1] != ".":
        return False
    is_abbreviation = 1 < len(before) <= SHORT_WORD + 1 or "." in before[:-1]
    following = words[index + 1] if index + 1 < len(words) else ""
    is_short = len(words[index]) <= SHORT_WORD and following[:1].islower()
    return not is_abbreviation or is_short or _is_name(words[index : index + len(name)], name)


def _is_name(words: Sequence[str], name: Sequence[str]) -> bool:
    """Whether these words are the name, or its possessive."""
    return bool(name) and [without_possessive(word) for word in words] == list(name)


# the words of a line stay the same in every epoch
@lru_cache(maxsize=100_000)
def without_possessive(word: str) -> str:
    """The word without punctuation and 's, as in Lovelace's."""
    return without_outer_punctuation(word).removesuffix("'s").removesuffix("’s")


def number_sentences(words: Sequence[str], name: Sequence[str] = ()) -> list[int]:
    """The number of the sentence of each word.

    Args:
        name: the words of the name of the line, as `without_possessive` returns them.
    """
    numbers: list[int] = []
    for index in range(len(words)):
        numbers.append((numbers[-1] if numbers else -1) + starts_sentence(words, index, name))
    return numbers


def find_salient_spans(
    words: list[str],
    salient: list[bool],
    sentences: list[int],
    generator: np.random.Generator,
    comma_probability: float = 0.0,
) -> list[Bounds]:
    """Start and end of each span of salient words; a comma, semicolon, colon, bracket or a new sentence ends a span.

    Half of the time, a short word between two salient words is part of the span, as in Isle of Man. Half of the time,
    a number and the capitalised word after it are one span, as in 1936 Olympics. With `comma_probability`, a comma
    between two salient words joins them, as in `Dorton, Ohio` and `April 3, 1981`. So do two short words, as in
    `Stoke on the Hill`, and a word in brackets, as in `Frankfurt (Oder)`. A date such as `3 April 1981` is then one
    span, but with half of this probability its year is a span of its own. Half of the time, a short unit belongs to its
    number, as in `weighs 12 kg.`

    Args:
        sentences: the number of the sentence of each word.
    """
    spans, start = [], 0
    while start < len(words):
        end = start + 1
        if salient[start]:
            while end < len(words) and not _is_drawn_end(words, sentences, end, generator):
                if comma_probability and words[end - 1][-1] in DASHES:
                    break
                if words[end - 1][-1] in ",;:)" or words[end][0] == "(":
                    if not _is_joined(words, salient, end, generator, comma_probability):
                        break
                    end += 1
                elif salient[end]:
                    is_day = bool(comma_probability) and _is_year_of_date(words, end + 1)
                    is_apart = words[end - 1].isdigit() and not words[end][0].isdigit() and not is_day
                    if is_apart and generator.random() < 0.5:
                        break
                    if (
                        comma_probability
                        and _is_year_of_date(words, end)
                        and generator.random() < comma_probability / 2
                    ):
                        break
                    end += 1
                elif _is_link(words, salient, end, 1) and generator.random() < 0.5:
                    end += 2
                elif comma_probability and _is_link(words, salient, end, 2) and generator.random() < comma_probability:
                    end += 3
                elif comma_probability and _is_unit(words, end) and generator.random() < 0.5:
                    end += 1
                else:
                    break
            spans.append((start, end))
        start = end
    return spans


def text_of_span(words: list[str], bounds: Bounds, generator: np.random.Generator) -> str:
    """The words of a span without outer punctuation, except for marks that belong to the words.

    These are a closing bracket that is opened in the span and, half of the time, the full stop of an abbreviation, as
    in `Washington D.C.` and `Iron Bank, Inc.`, the mark of `Yahoo!`, the apostrophe of `'s-Hertogenbosch`, and the
    signs of `45%` and `$5 million`.
    """
    start, end = bounds
    whole = " ".join(words[start:end])
    text = without_outer_punctuation(whole)
    before, after = whole.split(text, 1) if text else ("", "")
    if after[:1] == ")" and "(" in text:
        text, after = text + ")", after[1:]
    last, following = words[end - 1], words[end] if end < len(words) else ""
    bare = without_outer_punctuation(last)
    # a short word after a comma, as in Iron Bank, Inc.
    is_last_part = end - start > 1 and words[end - 2][-1] == "," and 1 < len(bare) <= SHORT_WORD and bare.istitle()
    is_abbreviation = "." in bare or is_last_part
    if after[:1] == "." and (is_abbreviation or following[:1].islower()) and generator.random() < 0.5:
        text += "."
    elif (after[:1] == "!" or (after == "?" and following[:1].islower())) and generator.random() < 0.5:
        text += after[0]
    elif after and after[0] in PERCENT and text[-1].isdigit() and generator.random() < 0.5:
        text += after[0]
    if before[-1:] in ("'", "’") and before[-1:] not in after and text[:1].islower() and generator.random() < 0.5:
        text = before[-1] + text
    elif before and before[-1] in CURRENCIES and text[0].isdigit() and generator.random() < 0.5:
        text = before[-1] + text
    return text


def split_some_hyphens(words: list[str], generator: np.random.Generator) -> list[str]:
    """The words, cut after dashes (`1866--1952`); half of the time, a word such as Berlin-born becomes two words."""
    split = []
    for word in " ".join(_DASH_BEFORE_WORD.sub(r"\g<0> ", word) for word in words).split():
        head, _, tail = word.partition("-")
        is_joined = without_outer_punctuation(head)[:1].isupper() and tail.islower()
        is_split = is_joined and generator.random() < 0.5
        split += [head, tail] if is_split else [word]
    return split


def split_marks(words: list[str]) -> list[str]:
    """The words, with dashes and opening brackets as words of their own: `(1866--1952)` becomes `( 1866 - 1952)`.

    A word that is in brackets alone, as in `Frankfurt (Oder)`, stays as it is.
    """
    split = []
    for word in " ".join(_DASH_BEFORE_WORD.sub(r" \g<0> ", word) for word in words).split():
        if word[0] == BRACKET and ")" not in word:
            split.append(BRACKET)
            word = word[1:]
        before_dash = word.rstrip(DASHES)
        if before_dash:
            split.append(before_dash)
        if before_dash != word:
            split.append(DASH)
    return split


def _is_drawn_end(words: list[str], sentences: list[int], index: int, generator: np.random.Generator) -> bool:
    """Whether a word starts a sentence; half of the time after three letters: `Sgt. Pepper`, but `in Rio. Later`."""
    if sentences[index] != sentences[index - 1]:
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


def _is_year_of_date(words: list[str], index: int) -> bool:
    """Whether a word is a number of four digits after a capitalised word without a comma."""
    if index >= len(words):
        return False
    before, bare = words[index - 1], without_outer_punctuation(words[index])
    return bare.isdigit() and len(bare) == 4 and before[0].isupper() and before[-1].isalpha()


def _is_link(words: list[str], salient: list[bool], index: int, count: int) -> bool:
    """Whether this and the next words, `count` in all, are short and between two capitalised words."""
    end = index + count
    if end >= len(words) or not salient[end] or any(salient[index:end]):
        return False
    are_short = all(word == "&" or (word.isalpha() and len(word) <= SHORT_WORD) for word in words[index:end])
    return are_short and words[index - 1][0].isupper() and words[end][0].isupper()


def _is_unit(words: list[str], index: int) -> bool:
    """Whether a word is short, in lower case, after a number, and ends at punctuation, as no preposition does."""
    word, bare = words[index], without_outer_punctuation(words[index])
    ends = index + 1 == len(words) or word != bare
    return (
        words[index - 1][-1].isdigit() and ends and word[0] == bare[:1] and bare.islower() and len(bare) <= SHORT_WORD
    )
