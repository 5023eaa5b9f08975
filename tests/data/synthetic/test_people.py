"""Synthetic people: their lists of names, and how attributes are distributed."""

import random
import unicodedata
from collections import Counter
from itertools import combinations, islice, permutations

import pytest

from birthgpt.data.synthetic import people
from birthgpt.data.synthetic.people import (
    FIELDS,
    FIRST_NAMES,
    LAST_NAMES,
    OCCUPATIONS,
    PLACES,
    generate_people,
    person_at,
)


def chi_square(pairs):
    """Pearson's statistic of a contingency table, and its degrees of freedom."""
    cells, rows, columns = Counter(pairs), Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    total = len(pairs)
    statistic = sum(
        (cells[a, b] - rows[a] * columns[b] / total) ** 2 / (rows[a] * columns[b] / total)
        for a in rows
        for b in columns
    )
    return statistic, (len(rows) - 1) * (len(columns) - 1)


def test_lists_have_no_repetitions_and_composed_characters_only():
    for entries in (PLACES, FIRST_NAMES, LAST_NAMES, OCCUPATIONS, FIELDS):
        assert len(set(entries)) == len(entries)
        assert all(unicodedata.is_normalized("NFC", entry) and entry.strip() for entry in entries)
    assert len(PLACES) >= 200
    assert any(" " in place for place in PLACES)


def test_a_place_is_found_in_no_other_place_and_in_no_name():
    assert not [pair for pair in combinations(sorted(PLACES, key=len), 2) if pair[0] in pair[1]]
    assert not [(place, name) for place in PLACES for name in FIRST_NAMES + LAST_NAMES if place in name]


def test_a_person_depends_on_seed_and_index_alone():
    alone = person_at(70, seed=1)
    assert alone == list(generate_people(100, seed=1))[70] == list(generate_people(200, seed=1))[70]
    assert alone != person_at(70, seed=2)


def test_another_seed_has_other_names_and_places():
    one, other = (list(generate_people(500, seed)) for seed in (0, 1))
    assert len({person.name for person in one} & {person.name for person in other}) < 25
    same = sum(a.birthplace == b.birthplace for a, b in zip(one, other, strict=True))
    assert same < 25


@pytest.mark.parametrize("seed", [0, 1])
def test_first_and_last_name_are_a_unique_pair_up_to_the_millionth_person(seed):
    # 20,000 independent draws from a million pairs would collide about two hundred times
    sample = random.Random(seed).sample(range(1_000_000), 20_000) + [999_999]
    names = [person_at(index, seed).name.split() for index in set(sample)]
    assert len({(words[0], words[-1]) for words in names}) == len(names)
    assert {len(words) for words in names} == {2, 3}


@pytest.mark.parametrize("seed", [0, 1])
def test_first_and_last_name_are_a_unique_pair_up_to_the_billionth_person(seed):
    # successive people, and people from everywhere
    sample = [*range(1_000_000, 1_010_000), *random.Random(seed).sample(range(1_000_000, 10**9), 10_000), 10**9 - 1]
    names = [person_at(index, seed).name.split() for index in set(sample)]
    assert len({(words[0], words[-1]) for words in names}) == len(names)
    lasts = [words[-1].split("-") for words in names]
    assert all(len(last) == 2 and last[0] != last[1] and set(last) <= set(LAST_NAMES) for last in lasts)


def test_the_permutation_of_double_names_has_no_pair_twice(monkeypatch):
    # with few names, all pairs can be listed
    for name, size in (("_FIRSTS", 4), ("_LASTS", 7)):
        monkeypatch.setattr(people, name, size)
    people._double_name_rounds.cache_clear()
    found = {people._first_and_two_last(index, 3) for index in range(4 * 7 * 6)}
    people._double_name_rounds.cache_clear()
    assert found == {(first, *pair) for first in range(4) for pair in permutations(range(7), 2)}


def test_double_names_of_neighbours_have_nothing_special_in_common():
    crowd = [person_at(index, 5).name.split() for index in range(2_000_000, 2_010_000)]
    assert len({words[0] for words in crowd}) == len(FIRST_NAMES)
    for part in (lambda words: words[0], lambda words: words[-1].split("-")[0], lambda words: words[-1].split("-")[1]):
        parts = [part(words) for words in crowd]
        same = sum(a == b for a, b in zip(parts, parts[1:], strict=False)) / len(crowd)
        assert same < 2 / len(FIRST_NAMES)


def test_names_of_neighbours_have_nothing_special_in_common(crowd):
    firsts = [person.name.split()[0] for person in crowd]
    assert set(firsts) == set(FIRST_NAMES)
    neighbours = sum(a == b for a, b in zip(firsts, firsts[1:], strict=False)) / len(firsts)
    assert neighbours < 2 / len(FIRST_NAMES)


def test_a_person_is_generated_when_it_is_asked_for(generated):
    crowd = generate_people(1_000_000_000, seed=0)
    assert generated == []
    assert len(list(islice(crowd, 3))) == 3
    assert generated == [0, 1, 2]


def test_birthplaces_are_skewed_but_none_is_common(crowd):
    counts = [count for _, count in Counter(person.birthplace for person in crowd).most_common()]
    assert len(counts) == len(PLACES)
    assert counts[0] / len(crowd) < 0.03
    assert sum(counts[:20]) > 2 * sum(counts[-20:])


@pytest.mark.parametrize(
    "attribute",
    ["workplace", "study_place", "residence", "occupation", "field", "employer", "pronoun", "name"],
)
def test_a_birthplace_is_independent_of(attribute, crowd):
    def group(value):
        return sum(map(ord, value)) % 7

    pairs = [(group(person.birthplace), group(getattr(person, attribute))) for person in crowd]
    statistic, freedom = chi_square(pairs)
    # the mean is `freedom` and the variance is twice as large: five standard deviations
    assert statistic < freedom + 5 * (2 * freedom) ** 0.5
    dependent, freedom = chi_square([(a, b if index % 5 else a) for index, (a, b) in enumerate(pairs)])
    assert dependent > freedom + 5 * (2 * freedom) ** 0.5


def test_all_places_of_a_person_have_one_distribution(crowd):
    expected = Counter(person.birthplace for person in crowd)
    for attribute in ("workplace", "study_place", "residence"):
        found = Counter(getattr(person, attribute) for person in crowd)
        common = [place for place, _ in expected.most_common(20)]
        assert sum(found[place] for place in common) == pytest.approx(
            sum(expected[place] for place in common), rel=0.15
        )


def test_a_count_is_checked_before_the_first_person_is_asked_for():
    with pytest.raises(ValueError, match="^count: -1 is not a whole number from 0 to 1000000000$"):
        generate_people(-1, seed=0)


def test_an_index_past_the_last_person_is_refused():
    with pytest.raises(ValueError, match="^index: 1000000000 is not a whole number from 0 to 999999999$"):
        person_at(1_000_000_000, seed=0)
