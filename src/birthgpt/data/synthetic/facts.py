"""The facts of synthetic people for up to ten relations.

Places, schools and employers are composed of plain words. Many answers are not one word with a capital: `Elmford, TX`,
`April 3, 1981`, `Fernton by the Sea`, `Iron Kite F.C.`, `painter, potter and poet`. Every fact is drawn independently
of the others and of the name. The exception is the spouse: people are married in pairs, so each names the other.
"""

import math
import random
from collections.abc import Sequence
from datetime import date
from functools import lru_cache
from itertools import accumulate, pairwise, product

from birthgpt.data.synthetic.lists import load_lists
from birthgpt.data.synthetic.people import FIELDS, OCCUPATIONS, Person, person_at
from birthgpt.data.synthetic.wordings import Subject

_PARTS, _MONTHS = load_lists("parts.json"), load_lists("names.json")["months"]

STEMS = {
    "town": [head + tail for head, tail in product(_PARTS["town_heads"], _PARTS["town_tails"])],
    "school": [head + tail for head, tail in product(_PARTS["school_heads"], _PARTS["school_tails"])],
    "firm": [f"{adjective} {noun}" for adjective, noun in product(_PARTS["firm_adjectives"], _PARTS["firm_nouns"])],
}
"""What distinguishes the places, schools and employers. Each is in one full name only."""

# how often a person has one, two or three of an answer that can be a list
_OCCUPATION_COUNTS, _FIELD_COUNTS, _NATIONALITY_COUNTS = (70, 20, 10), (80, 20), (90, 10)

_FIRST_DAY, _LAST_DAY = date(1900, 1, 1), date(1989, 12, 31)


def subject_at(index: int, seed: int) -> Subject:
    """The person with this index among the people of `seed`, with the facts of all relations.

    Name and pronoun are those of `person_at`. The people with the indices 2k and 2k + 1 are married.

    Raises:
        ValueError: `index` is not a whole number from 0 to 999,999,999.
    """
    person = _person(index, seed)
    rng = random.Random(f"{seed}-facts-{index}")
    birthplace, workplace, residence = (_draw(_full_names("town", seed), rng) for _ in range(3))
    facts = {
        "birthplace": birthplace,
        "birth_date": _written_date(rng),
        "occupation": _listed(OCCUPATIONS, _OCCUPATION_COUNTS, rng),
        "employer": _draw(_full_names("firm", seed), rng),
        "workplace": workplace,
        "field": _listed(FIELDS + _PARTS["fields"], _FIELD_COUNTS, rng),
        "study_place": _draw(_full_names("school", seed), rng),
        "residence": residence,
        "nationality": _listed(_PARTS["nationalities"], _NATIONALITY_COUNTS, rng),
        "spouse": _person(index ^ 1, seed).name,
    }
    return Subject(person.name, {"name": person.name, **facts}, person.pronoun)


def entropy_of(relation: str) -> float:
    """The entropy of a person's answer in bits: what must be stored to know it, if all possible answers are known.

    Raises:
        ValueError: the relation has no entropy of its own: a spouse follows from the names, and others are unknown.
    """
    lists = {
        "occupation": (OCCUPATIONS, _OCCUPATION_COUNTS),
        "field": (FIELDS + _PARTS["fields"], _FIELD_COUNTS),
        "nationality": (_PARTS["nationalities"], _NATIONALITY_COUNTS),
    }
    kinds = {
        **dict.fromkeys(("birthplace", "workplace", "residence"), "town"),
        "employer": "firm",
        "study_place": "school",
    }
    if relation == "birth_date":
        return math.log2((_LAST_DAY - _FIRST_DAY).days + 1)
    if relation in kinds:
        return _entropy([second - first for first, second in pairwise((0.0, *_weights_of(kinds[relation])))])
    if relation in lists:
        values, weights = lists[relation]
        orders = (math.log2(math.perm(len(values), count)) for count in range(1, len(weights) + 1))
        return _entropy(weights) + sum(weight * bits for weight, bits in zip(weights, orders, strict=True)) / sum(
            weights
        )
    raise ValueError(f"relation={relation!r} has no entropy: choose from birth_date, {', '.join((*kinds, *lists))}")


def _weights_of(kind: str) -> tuple[float, ...]:
    return _cumulative_weights(len(STEMS[kind]))


def _entropy(weights: Sequence[float]) -> float:
    """The entropy, in bits, of a draw with these weights."""
    total = sum(weights)
    return -sum(weight / total * math.log2(weight / total) for weight in weights)


@lru_cache(maxsize=4)
def _person(index: int, seed: int) -> Person:
    """`person_at`; each person is needed twice in a row, once as a spouse."""
    return person_at(index, seed)


@lru_cache(maxsize=12)
def _full_names(kind: str, seed: int) -> tuple[str, ...]:
    """All towns, schools or firms with their full names, the most common one first."""
    rng = random.Random(f"{seed}-{kind}")
    compose = {"town": _town, "school": _school, "firm": _firm}[kind]
    return tuple(compose(stem, rng) for stem in rng.sample(STEMS[kind], len(STEMS[kind])))


def _town(stem: str, rng: random.Random) -> str:
    forms = (
        stem,
        f"{rng.choice(_PARTS['town_adjectives'])} {stem}",
        f"{rng.choice(_PARTS['town_kinds'])} {stem}",
        f"{stem} {rng.choice(_PARTS['town_links'])}",
        f"{stem}, {rng.choice(_PARTS['states'])}",
        f"{stem}, {rng.choice(_PARTS['state_codes'])}",
    )
    return rng.choices(forms, (20, 15, 15, 10, 20, 20))[0]


def _school(stem: str, rng: random.Random) -> str:
    state = rng.choice(_PARTS["states"])
    forms = (
        f"University of {stem}",
        f"{stem} College",
        f"{stem} University, {state}",
        f"{stem} Institute of Technology",
        f"{stem} School of Arts and Crafts",
    )
    return rng.choice(forms)


def _firm(stem: str, rng: random.Random) -> str:
    kind = rng.choice(_PARTS["firm_kinds"])
    forms = (f"{stem} {kind}", f"{stem} & Sons", f"{stem} {kind}, Inc.", f"Friends of the {stem}", f"{stem} F.C.")
    return rng.choices(forms, (40, 15, 15, 15, 15))[0]


@lru_cache(maxsize=8)
def _cumulative_weights(count: int) -> tuple[float, ...]:
    """1 / (rank + 30), as for the places of `people`: some answers are common, but none is a good guess."""
    return tuple(accumulate(1 / (rank + 30) for rank in range(1, count + 1)))


def _draw(values: Sequence[str], rng: random.Random) -> str:
    return rng.choices(values, cum_weights=_cumulative_weights(len(values)))[0]


def _written_date(rng: random.Random) -> str:
    """A day from 1900 to 1989, such as `April 3, 1981`."""
    day = date.fromordinal(rng.randrange(_FIRST_DAY.toordinal(), _LAST_DAY.toordinal() + 1))
    return f"{_MONTHS[day.month - 1]} {day.day}, {day.year}"


def _listed(values: Sequence[str], weights: Sequence[int], rng: random.Random) -> str:
    """One value, or several as a list: `painter`, `painter and poet`, `painter, potter and poet`."""
    count = rng.choices(range(1, len(weights) + 1), weights)[0]
    *others, last = rng.sample(values, count)
    return f"{', '.join(others)} and {last}" if others else last
