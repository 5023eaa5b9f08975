"""Synthetic people. Each person is a function of a seed and an index.

So people are generated one at a time, and are never all in memory. All attributes are drawn independently of each other
and of the name, so only a biography tells where a person was born. The places of work, study and residence have the
same distribution as the birthplace.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from itertools import accumulate

from birthgpt.data.synthetic.checks import check_whole_number
from birthgpt.data.synthetic.lists import load_lists

MIN_PEOPLE, MAX_PEOPLE = 100, 1_000_000_000

PEOPLE_WITH_ONE_LAST_NAME = 1_000_000
"""The last names of all later people are two: `Keller-Abral`."""

_LISTS = load_lists("names.json")
PLACES, OCCUPATIONS, FIELDS = _LISTS["places"], _LISTS["occupations"], _LISTS["fields"]
WOMEN, MEN = _LISTS["women"], _LISTS["men"]
FIRST_NAMES = WOMEN + MEN
LAST_NAMES = tuple(stem + ending for stem in _LISTS["last_name_stems"] for ending in _LISTS["last_name_endings"])
_FIRSTS, _LASTS = len(FIRST_NAMES), len(LAST_NAMES)
assert _FIRSTS * _LASTS >= PEOPLE_WITH_ONE_LAST_NAME
assert _FIRSTS * _LASTS * (_LASTS - 1) >= MAX_PEOPLE - PEOPLE_WITH_ONE_LAST_NAME

# 1 / (rank + 30): the most common place is about eight times as frequent as the rarest, and below 2%
_PLACE_WEIGHTS = tuple(accumulate(1 / (rank + 30) for rank in range(1, len(PLACES) + 1)))


@dataclass(frozen=True)
class Person:
    """One synthetic person. The four places are drawn independently, so two of them may be the same."""

    name: str  # two or three words, different from all other names of the seed
    pronoun: str  # "she" or "he"
    birthplace: str
    birth_date: date
    occupation: str
    employer: str
    workplace: str
    field: str  # of study
    study_place: str
    residence: str


def person_at(index: int, seed: int) -> Person:
    """The person with this index among the people of `seed`, independent of the number of people.

    Raises:
        ValueError: `index` is not a whole number from 0 to 999,999,999.
    """
    check_whole_number("index", index, 0, MAX_PEOPLE - 1)
    first, last_name = _first_and_last_name(index, seed)
    rng = random.Random(f"{seed}-person-{index}")
    woman = first < len(WOMEN)
    # first and last name are a unique pair already, so any middle name or initial may be added
    middle = rng.choices(
        ("", f"{rng.choice('ABCDEFGHJKLMNPRSTVW')}. ", f"{rng.choice(WOMEN if woman else MEN)} "),
        cum_weights=(60, 80, 100),
    )[0]
    birthplace, workplace, study_place, residence = rng.choices(_ranked_places(seed), cum_weights=_PLACE_WEIGHTS, k=4)
    return Person(
        name=f"{FIRST_NAMES[first]} {middle}{last_name}",
        pronoun="she" if woman else "he",
        birthplace=birthplace,
        birth_date=date.fromordinal(rng.randrange(date(1900, 1, 1).toordinal(), date(1990, 1, 1).toordinal())),
        occupation=rng.choice(OCCUPATIONS),
        employer=f"{rng.choice(_LISTS['founders'])} {rng.choice(_LISTS['institutions'])}",
        workplace=workplace,
        field=rng.choice(FIELDS),
        study_place=study_place,
        residence=residence,
    )


def generate_people(count: int, seed: int) -> Iterator[Person]:
    """The first `count` people of `seed`, generated one at a time.

    Raises:
        ValueError: `count` is not a whole number from 0 to 1,000,000,000.
    """
    check_whole_number("count", count, 0, MAX_PEOPLE)
    return (person_at(index, seed) for index in range(count))


@lru_cache(maxsize=4)
def _ranked_places(seed: int) -> tuple[str, ...]:
    """All places, the most common one first."""
    return tuple(random.Random(f"{seed}-places").sample(PLACES, len(PLACES)))


def _first_and_last_name(index: int, seed: int) -> tuple[int, str]:
    """The position of a person's first name, and the last name; a pair that no other person of the seed has."""
    if index < PEOPLE_WITH_ONE_LAST_NAME:
        first, last = _first_and_last(index, seed)
        return first, LAST_NAMES[last]
    first, last, second = _first_and_two_last(index - PEOPLE_WITH_ONE_LAST_NAME, seed)
    return first, f"{LAST_NAMES[last]}-{LAST_NAMES[second]}"


def _first_and_last(index: int, seed: int) -> tuple[int, int]:
    """The positions of a person's first and last name in their lists.

    This is a seeded permutation of all pairs: a Feistel network over two halves of unequal size. Each step shifts
    one half by a table entry that the other half selects. A step can be undone, so different indices have
    different pairs.
    """
    first, last = divmod(index, _LASTS)
    for last_shifts, first_shifts in _name_rounds(seed):
        last = (last + last_shifts[first]) % _LASTS
        first = (first + first_shifts[last]) % _FIRSTS
    return first, last


def _first_and_two_last(index: int, seed: int) -> tuple[int, int, int]:
    """The positions of a first name and of two different last names, by a permutation as in `_first_and_last`."""
    rest, second = divmod(index, _LASTS - 1)
    first, last = divmod(rest, _LASTS)
    for first_shifts, last_shifts, second_shifts in _double_name_rounds(seed):
        first = (first + first_shifts[second]) % _FIRSTS
        last = (last + last_shifts[first]) % _LASTS
        second = (second + second_shifts[last]) % (_LASTS - 1)
    # the second is one of the names that are not the first
    return first, last, second + (second >= last)


@lru_cache(maxsize=4)
def _name_rounds(seed: int, rounds: int = 4) -> tuple[tuple[list[int], list[int]], ...]:
    """For each round of the permutation, the shifts of the last name and of the first name."""
    rng = random.Random(f"{seed}-names")
    return tuple((rng.choices(range(_LASTS), k=_FIRSTS), rng.choices(range(_FIRSTS), k=_LASTS)) for _ in range(rounds))


@lru_cache(maxsize=4)
def _double_name_rounds(seed: int, rounds: int = 6) -> tuple[tuple[list[int], list[int], list[int]], ...]:
    """For each round of the permutation, the shifts of the first name and of both last names."""
    rng = random.Random(f"{seed}-double-names")
    return tuple(
        (
            rng.choices(range(_FIRSTS), k=_LASTS - 1),
            rng.choices(range(_LASTS), k=_FIRSTS),
            rng.choices(range(_LASTS - 1), k=_LASTS),
        )
        for _ in range(rounds)
    )
