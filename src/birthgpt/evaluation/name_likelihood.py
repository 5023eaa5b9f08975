"""How likely a name is among the names of a corpus, by the n-grams of its characters."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping

from birthgpt.data.names import name_key

LONGEST_GRAM = 6
MOST_GRAMS = 200_000
_START, _END = "\x02", "\x03"


class NameLikelihood:
    """A language model of names over characters, smoothed from order to order (MacKay and Peto, 1995).

    p_n(c | h) = (count(hc) + p_{n−1}(c | h without its first character)) / (count(h) + 1), and p_0 = 1 / alphabet.

    Args:
        counts: how often each n-gram is in the names; its length is the order of its context, plus one.
        order: the characters of the longest context.
    """

    def __init__(self, counts: Mapping[str, int], order: int):
        self.counts, self.order = dict(counts), order
        self._contexts: Counter[str] = Counter()
        for gram, count in self.counts.items():
            self._contexts[gram[:-1]] += count
        # one more for every character that no name has
        self._alphabet = sum(len(gram) == 1 for gram in self.counts) + 1

    @classmethod
    def of_names(cls, names: Iterable[str]) -> "NameLikelihood":
        """The counts of the names; n-grams as long as possible, up to 6 characters and 200,000 different ones."""
        keys = sorted({name_key(name) for name in names} - {""})
        counts: Counter[str] = Counter()
        order = 0
        for length in range(1, LONGEST_GRAM + 1):
            found = Counter(gram for key in keys for gram in _grams(key, length))
            if counts and len(counts) + len(found) > MOST_GRAMS:
                break
            counts += found
            order = length - 1
        return cls(counts, order)

    def __call__(self, name: str) -> float:
        """The mean of log p (natural) over the characters of a name and its end."""
        key = name_key(name)
        padded = _START * self.order + key + _END
        places = range(self.order, len(padded))
        return sum(math.log(self._probability(padded, place)) for place in places) / len(places)

    def _probability(self, padded: str, place: int) -> float:
        found = 1 / self._alphabet
        for length in range(self.order + 1):
            context = padded[place - length : place]
            found = (self.counts.get(context + padded[place], 0) + found) / (self._contexts[context] + 1)
        return found


def _grams(key: str, length: int) -> Iterable[str]:
    padded = _START * (length - 1) + key + _END
    return (padded[start : start + length] for start in range(len(padded) - length + 1))
