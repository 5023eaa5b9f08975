"""Which words in lower case may be an answer, such as `trade unionist`, and how often they are one.

Each function draws its choices from the generator of the line. Half of the time means a new choice in every epoch.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from math import prod

import numpy as np

from birthgpt.data.objectives.recall_from_name import without_outer_punctuation
from birthgpt.data.objectives.salient_words import CURRENCIES, SHORT_WORD, Bounds, is_salient

CONJUNCTIONS = ("and", "or")
"""Before the last entry of a list."""

COUNTED_LINES = 200_000
"""The lines at the start of a corpus in which words are counted."""

Collocations = dict[tuple[str, ...], float]
"""Three words in a row, and how well the first two predict the third."""


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
