"""Names that no line has, to teach and to measure whether a model knows that it never read a name.

A name is invented in one of two ways:

- *recombined*: the first parts of one name of the corpus and the last parts of another;
- with *new parts*: at least one word of a name of the corpus is replaced by a word that no name has. A Markov chain
  over the characters of the words in the same place makes it, so it looks like the others.

A hash of the name decides whether it belongs to training, to calibration or to measurement. So a name on which a model
is measured was never a negative example of its training, whatever the seeds are. The same holds for each new word.
"""

import hashlib
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Literal, NamedTuple, get_args

import numpy as np

from birthgpt.data.names import name_key

Part = Literal["training", "calibration", "measurement"]
PARTS: tuple[Part, ...] = get_args(Part)
_ENDS = (0.6, 0.8, 1.0)
"""Where each part ends, as a fraction of all hashes."""

_MAX_DRAWS = 1000
_ORDERS = (3, 2, 1)
"""Characters that the next one depends on; fewer if so many make no new word."""
_DRAWS_PER_ORDER = 40
_SHORTEST_WORD = 3
_START, _END = "\x02", "\x03"
# what belongs to the word before it: Jr., III, (politician), of Barnes
_SUFFIX = re.compile(r"(?:Jr|Sr|Esq)\.?|[IVX]+|\d+|.*[()].*")


class InventedName(NamedTuple):
    """A name that no line has, and whether it has parts that no name has."""

    name: str
    has_new_part: bool


class UnknownNames:
    """Invents names of one part of the split.

    An invented name is no given name in any spelling (`names.name_key`, in capitals or not), and it does not have the
    first and the last part of one of them: `John Kennedy` is not invented if the corpus has `John F. Kennedy`.

    Args:
        names: the names of the corpus, from which others are made.
        part: training, calibration or measurement.
        new_parts: the fraction of invented names that have parts that no name has; the others are recombined.
        excluded: further names that are never invented, such as those of development questions. Their parts are not
            used.

    Raises:
        ValueError: the names have no parts to recombine, or no word to imitate.
    """

    def __init__(self, names: Iterable[str], *, part: Part, new_parts: float = 0.5, excluded: Iterable[str] = ()):
        # sorted: the order of lines and repeated names change nothing
        self.names = sorted({name for name in names if name_key(name)})
        self.part, self.new_parts = part, new_parts
        taken = [*self.names, *excluded]
        self._taken = {_key(name) for name in taken} | {_ends_of(name_parts(name)) for name in taken}
        self._words = {_key(word) for name in taken for word in name.split()}
        self._parts = list(filter(lambda parts: len(parts) > 1, map(name_parts, self.names)))
        self._imitable = [(name.split(), places) for name in self.names if (places := _imitable_places(name))]
        if new_parts < 1 and len(self._parts) < 2:
            raise ValueError(
                f"{len(self._parts)} of {len(self.names)} names have a first and a last part, so no name can be "
                "recombined: invent names with new parts only (unknown_name_new_parts: 1)"
            )
        if new_parts and not self._imitable:
            raise ValueError(
                f"none of {len(self.names)} names has a word of {_SHORTEST_WORD} letters to imitate: recombine names "
                "only (unknown_name_new_parts: 0)"
            )
        self._chains = (self._learn_chains(first=True), self._learn_chains(first=False))

    def draw(self, generator: np.random.Generator) -> InventedName:
        """A name, which depends on the names, the settings and the generator alone.

        Raises:
            ValueError: no name is found, because the corpus has too few names.
        """
        # the kind is drawn once: the fraction does not depend on how often a kind fails
        has_new_part = bool(generator.random() < self.new_parts)
        invent = self._with_new_words if has_new_part else self._recombined
        for _ in range(_MAX_DRAWS):
            name = invent(generator)
            if name is not None and self._is_free(name) and part_of(name) == self.part:
                return InventedName(name, has_new_part)
        raise ValueError(
            f"no name for {self.part} {'with new parts' if has_new_part else 'recombined'} is found among "
            f"{len(self.names)} names: too few names have different parts; change unknown_name_new_parts"
        )

    def sample(self, count: int, seed: int) -> list[InventedName]:
        """`count` different names of a seed; a shorter list is the beginning of a longer one."""
        generator = np.random.default_rng((seed, PARTS.index(self.part)))
        found: dict[str, InventedName] = {}
        for _ in range(_MAX_DRAWS + 10 * count):
            if len(found) == count:
                break
            invented = self.draw(generator)
            found.setdefault(_key(invented.name), invented)
        else:
            raise ValueError(f"only {len(found)} different names for {self.part} are found, not {count}: ask for fewer")
        return list(found.values())

    def _recombined(self, generator: np.random.Generator) -> str | None:
        """The first parts of a name, and as many last parts of another as it has more."""
        first, last = (self._parts[index] for index in generator.integers(len(self._parts), size=2))
        count = int(generator.integers(1, len(first)))
        rest = len(first) - count
        return " ".join([*first[:count], *last[-rest:]]) if rest < len(last) else None

    def _with_new_words(self, generator: np.random.Generator) -> str | None:
        """A name with one or more words replaced by new ones of this part of the split."""
        words, places = self._imitable[generator.integers(len(self._imitable))]
        words = list(words)
        chosen = [index for index in places if generator.random() < 0.5] or [places[generator.integers(len(places))]]
        for index in chosen:
            word = self._new_word(index == 0, generator)
            if word is None:
                return None
            words[index] = word
        return " ".join(words)

    def _new_word(self, first: bool, generator: np.random.Generator) -> str | None:
        for chain in self._chains[0 if first else 1]:
            for _ in range(_DRAWS_PER_ORDER):
                word = chain.draw(generator)
                if word is not None and _key(word) not in self._words and part_of(word) == self.part:
                    return word
        return None

    def _learn_chains(self, first: bool) -> list["CharacterChain"]:
        words = [words[place] for words, places in self._imitable for place in places if (place == 0) == first]
        return [CharacterChain(words, order) for order in _ORDERS] if words else []

    def _is_free(self, name: str) -> bool:
        return self._taken.isdisjoint((_key(name), _ends_of(name_parts(name))))


class CharacterChain:
    """p(character | the `order` characters before it), counted in words; a word is as long as the longest at most."""

    def __init__(self, words: Iterable[str], order: int):
        self.order = order
        counts: dict[str, Counter[str]] = {}
        self.longest = 0
        for word in words:
            self.longest = max(self.longest, len(word))
            for context, character in self._transitions(word):
                counts.setdefault(context, Counter())[character] += 1
        self._characters = {context: sorted(found) for context, found in counts.items()}
        self._sums = {
            context: list(accumulate(counts[context][character] for character in characters))
            for context, characters in self._characters.items()
        }

    def draw(self, generator: np.random.Generator) -> str | None:
        """A word; None if it is shorter than three characters or longer than the longest word."""
        word, context = "", _START * self.order
        while len(word) <= self.longest:
            sums = self._sums[context]
            character = self._characters[context][bisect_right(sums, generator.random() * sums[-1])]
            if character == _END:
                return word if len(word) >= _SHORTEST_WORD else None
            word, context = word + character, (context + character)[1:]
        return None

    def log_probability(self, word: str) -> float:
        """log p(word), the end included, with 0.1 added to the count of each transition that is possible somewhere."""
        alphabet = len({character for characters in self._characters.values() for character in characters}) or 1
        total = 0.0
        for context, character in self._transitions(word):
            count = 0
            if character in self._characters.get(context, ()):
                index = self._characters[context].index(character)
                sums = self._sums[context]
                count = sums[index] - (sums[index - 1] if index else 0)
            seen = self._sums[context][-1] if context in self._sums else 0
            total += float(np.log((count + 0.1) / (seen + 0.1 * alphabet)))
        return total

    def _transitions(self, word: str) -> Iterator[tuple[str, str]]:
        padded = _START * self.order + word + _END
        for index in range(self.order, len(padded)):
            yield padded[index - self.order : index], padded[index]


def part_of(name: str) -> Part:
    """The part of the split to which a name belongs, in any spelling."""
    digest = hashlib.sha256(_key(name).encode()).digest()
    return PARTS[bisect_right(_ENDS, int.from_bytes(digest[:8], "big") / 2**64)]


def name_parts(name: str) -> list[str]:
    """The parts of a name, which belong together: `Ludwig`, `van Beethoven`; `Sammy`, `Davis Jr.`.

    Words in lower case belong to the word after them; a number, Jr. and words in brackets to the word before them.
    """
    parts: list[str] = []
    waiting: list[str] = []
    for word in name.split():
        if parts and not waiting and _SUFFIX.fullmatch(word):
            parts[-1] += f" {word}"
        elif word[0].islower() and not name.islower():
            waiting.append(word)
        else:
            parts.append(" ".join([*waiting, word]))
            waiting = []
    return [*parts, " ".join(waiting)] if waiting else parts


def _key(name: str) -> str:
    return name_key(name).casefold()


def _ends_of(parts: list[str]) -> tuple[str, str]:
    """The first and the last part, as they are compared; both are the same for a name of one part."""
    return (_key(parts[0]), _key(parts[-1])) if parts else ("", "")


def _imitable_places(name: str) -> list[int]:
    """The places of words of letters that are long enough, begin as names do, and are no suffixes."""
    return [
        place
        for place, word in enumerate(name.split())
        if len(word) >= _SHORTEST_WORD
        and word.replace("-", "").replace("'", "").isalpha()
        and (not word[0].islower() or name.islower())
        and not _SUFFIX.fullmatch(word)
    ]
