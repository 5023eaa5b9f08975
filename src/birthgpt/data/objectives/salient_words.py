"""Which words of a line may be an answer: names, places, dates and, from time to time, words in lower case.

Each function draws its choices from the generator of the line. Half of the time means a new choice in every epoch.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import islice
from math import prod

import numpy as np

from birthgpt.data.objectives.recall_from_name import without_outer_punctuation

SHORT_WORD = 3
"""The most letters of a short word, such as `of`, `and` and `the`: it links other words, or stands before them."""

DASHES = "-–—"
_DASH_BEFORE_WORD = re.compile(r"(?:--+|[–—])(?=\w)")

BRACKET, DASH = "(", "-"
MARKS = (BRACKET, DASH)
"""The marks that tell what follows them, as `split_marks` writes them."""

CONJUNCTIONS = ("and", "or")
"""Before the last entry of a list."""

CURRENCIES, PERCENT = "$£€¥", "%‰°"
"""The signs before a number, and after one, that belong to it."""

COUNTED_LINES = 200_000
"""The lines at the start of a corpus in which words are counted."""

Bounds = tuple[int, int]
"""The first word of a span, and the word after its last."""

Collocations = dict[tuple[str, ...], float]
"""Three words in a row, and how well the first two predict the third."""


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


def count_line_frequencies(texts: Iterable[str]) -> dict[str, float]:
    """The fraction of the lines that contain each word, in lower case and without outer punctuation."""
    counts: Counter[str] = Counter()
    lines = 0
    for text in islice(texts, COUNTED_LINES):
        counts.update({without_outer_punctuation(word).lower() for word in text.split()})
        lines += 1
    return {word: count / lines for word, count in counts.items()}


def count_collocations(texts: Iterable[str]) -> Collocations:
    """How well two words in lower case predict the word after them, without outer punctuation.

    In a place with the words u v w, w is predicted by all other places with u v: w follows in the fraction
    (c(u v w) − 1) / (c(u v) − 1) of them, where c counts. Words for which this is 0 are not in the result. The name
    of a person predicts the facts of the person, so words with a capital count neither as u nor as v.
    """
    pairs: Counter[tuple[str, ...]] = Counter()
    triples: Counter[tuple[str, ...]] = Counter()
    for text in islice(texts, COUNTED_LINES):
        words = [without_outer_punctuation(word) for word in text.split()]
        can_predict = [bool(word) and not is_salient(word) for word in words]
        for index in range(2, len(words)):
            if can_predict[index - 2] and can_predict[index - 1]:
                pairs[words[index - 2], words[index - 1]] += 1
                triples[words[index - 2], words[index - 1], words[index]] += 1
    return {words: (count - 1) / (pairs[words[:2]] - 1) for words, count in triples.items() if count > 1}


def predictability(collocations: Collocations, words: Sequence[str], span: Bounds) -> float:
    """The probability of the words of a span, each after the two before it; 0 at the start of the text.

    Args:
        words: without outer punctuation.
    """
    return prod(collocations.get(tuple(words[max(index - 2, 0) : index + 1]), 0.0) for index in range(*span))


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


def find_lower_case_spans(
    words: list[str],
    salient: list[bool],
    generator: np.random.Generator,
    probability: float,
    is_left_out: Sequence[bool],
) -> list[Bounds]:
    """Start and end of runs of longer words, not all of them salient, as `trade unionist`, each with `probability`.

    A run begins after a short word or at punctuation, because an answer in lower case rarely does otherwise. Half of
    the time, a drawn number of its first words is left out; mostly all capitalised ones, as in `an American painter`. A
    quarter of the time, a run that no punctuation ends loses a drawn number of its last words, as in `is a translator
    born in Rome`. Half of the time, a list as in `geologist, weaver and novelist` is one span.

    Args:
        is_left_out: words that are in no run, so that they end the run before them.
    """
    spans = []
    in_run = _in_runs(words, salient, is_left_out)
    for runs in _lists_of_runs(_find_runs(words, salient, in_run, generator), words):
        is_one = len(runs) > 1 and generator.random() < 0.5
        for (start, first_end), end in [(runs[0], runs[-1][1])] if is_one else [(run, run[1]) for run in runs]:
            if generator.random() < probability:
                starts = [word for word in range(start, first_end) if word == start or len(words[word]) >= SHORT_WORD]
                is_trimmed = len(starts) > 1 and generator.random() < 0.5
                first = _drawn_start(starts, salient, generator) if is_trimmed else start
                last_start = max(first, runs[-1][0] if is_one else start)
                spans.append((first, _drawn_end(words, salient, (last_start, end), generator)))
    return spans


def _drawn_start(starts: list[int], salient: list[bool], generator: np.random.Generator) -> int:
    """One of the words; most of the time the first in lower case, if capitalised ones are before it."""
    lower = [word for word in starts if not salient[word]]
    if salient[starts[0]] and lower and generator.random() < 0.7:
        return lower[0]
    return starts[generator.integers(len(starts))]


def _drawn_end(words: list[str], salient: list[bool], run: Bounds, generator: np.random.Generator) -> int:
    """The end of a run; a quarter of the time after an earlier word in lower case, but not if punctuation ends it."""
    start, end = run
    if not words[end - 1][-1].isalnum():
        return end
    ends = [word + 1 for word in range(start, end - 1) if not salient[word] and len(words[word]) > SHORT_WORD]
    is_trimmed = bool(ends) and generator.random() < 0.25
    return ends[generator.integers(len(ends))] if is_trimmed else end


def _lists_of_runs(runs: list[Bounds], words: list[str]) -> list[list[Bounds]]:
    """The runs in lists; most lists have one run."""
    lists: list[list[Bounds]] = []
    for start, end in runs:
        if lists and _joins(words[lists[-1][-1][1] - 1 : start]):
            lists[-1].append((start, end))
        else:
            lists.append([(start, end)])
    return lists


def _in_runs(words: list[str], salient: list[bool], is_left_out: Sequence[bool]) -> list[bool]:
    """The words that may be in a run: those that are not left out, and capitalised or not short."""
    return [
        not is_left_out[index] and (_is_longer(word, salient[index]) or _is_short_entry(words, index))
        for index, word in enumerate(words)
    ]


def _find_runs(
    words: list[str], salient: list[bool], in_run: list[bool], generator: np.random.Generator
) -> list[Bounds]:
    """The runs of words that may be in one, with a last word in lower case; punctuation ends a run.

    Half of the time, a number or three letters before a run are part of it, as in `art history` and `50 years`. A
    quarter of the time, two letters between two runs join them, as in `history of science`.
    """
    runs, start, previous_end = [], 0, 0
    while start < len(words):
        end = start
        while end < len(words) and in_run[end]:
            end += 1
            if not words[end - 1][-1].isalnum():
                break
            end += _is_lower_case_link(words, salient, in_run, end) and generator.random() < 0.25
        if end > start and not salient[end - 1]:
            is_longer = start > previous_end and _may_begin_run(words[start - 1]) and generator.random() < 0.5
            runs.append((start - is_longer, end))
            previous_end = end
        start = max(end, start + 1)
    return runs


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


def _is_longer(word: str, salient: bool) -> bool:
    """Whether a word may be part of an answer in lower case: it is not a number, not a name's possessive, not short."""
    bare = without_outer_punctuation(word)
    return bool(bare) and word[0] == bare[0] and bare.replace("-", "").isalpha() and (salient or len(bare) > SHORT_WORD)


def _is_short_entry(words: list[str], index: int) -> bool:
    """Whether a word of three letters may be an answer: it ends at punctuation, or is in a list, as `law` mostly is."""
    word, bare = words[index], without_outer_punctuation(words[index])
    if len(bare) != SHORT_WORD or not _is_lower_case(bare) or word[0] != bare[0] or bare in CONJUNCTIONS:
        return False
    following = [without_outer_punctuation(after) for after in words[index + 1 : index + 3]]
    if word != bare or not following or not following[0]:
        return True
    if following[0] in CONJUNCTIONS:
        return len(following) == 2 and len(following[1]) >= SHORT_WORD and _is_lower_case(following[1])
    is_last = index > 1 and words[index - 1] in CONJUNCTIONS and _is_longer(words[index - 2], False)
    return is_last and words[index - 2].islower() and len(following[0]) < SHORT_WORD


def _is_lower_case_link(words: list[str], salient: list[bool], in_run: list[bool], index: int) -> bool:
    """Whether a word has two letters and is between two words of runs in lower case."""
    if index + 1 >= len(words) or salient[index - 1] or salient[index + 1] or not in_run[index + 1]:
        return False
    return len(words[index]) < SHORT_WORD and _is_lower_case(words[index]) and words[index] not in CONJUNCTIONS


def _may_begin_run(word: str) -> bool:
    """Whether a word is a number, or has three letters in lower case, without punctuation."""
    is_number = word.lstrip(CURRENCIES)[:1].isdigit() and word[-1].isdigit()
    return is_number or (len(word) == SHORT_WORD and _is_lower_case(word) and word not in CONJUNCTIONS)


def _is_lower_case(word: str) -> bool:
    return word.isalpha() and word.islower()


def _joins(words: list[str]) -> bool:
    """Whether the last word of a run, and the words between it and the next run, make a list of them."""
    last, *between = words
    is_conjunction = len(between) == 1 and between[0] in CONJUNCTIONS
    return (last[-1] == "," and (not between or is_conjunction)) or (last[-1].isalnum() and is_conjunction)
