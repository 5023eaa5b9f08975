"""Invented names: no name of a corpus in any spelling, in three parts that never overlap, made like the others."""

import math
from itertools import product

import numpy as np
import pytest

from birthgpt.data.names import name_key
from birthgpt.data.synthetic.people import generate_people
from birthgpt.data.unknown_names import PARTS, CharacterChain, UnknownNames, name_parts, part_of

NAMES = [person.name for person in generate_people(300, seed=3)]
SOME = ["Ada King Lovelace", "Ludwig van Beethoven", "Sammy Davis Jr.", "Grace Hopper", "Émilie du Châtelet"]


def invented(part="training", names=NAMES, count=400, seed=0, **settings):
    return UnknownNames(names, part=part, **settings).sample(count, seed)


def words_of(names):
    return {word.casefold() for name in names for word in name.split()}


@pytest.mark.parametrize("part", PARTS)
def test_an_invented_name_is_no_given_name_in_any_spelling(part):
    development = [name.upper() for name in (NAMES[index] + "." for index in range(0, 300, 7))]
    corpus = [name for index, name in enumerate(NAMES) if index % 7]
    taken = {name_key(name).casefold() for name in NAMES}
    for name, _ in invented(part, corpus, excluded=development):
        assert name_key(name).casefold() not in taken


@pytest.mark.parametrize("part", PARTS)
def test_an_invented_name_does_not_have_the_first_and_last_part_of_one_person(part):
    ends = {(name.split()[0], name.split()[-1]) for name in NAMES}
    assert not ends & {(name.split()[0], name.split()[-1]) for name, _ in invented(part)}


def test_the_parts_of_the_split_share_no_name_and_no_new_word():
    found = {part: invented(part, seed=seed) for seed, part in enumerate(PARTS)}
    known = words_of(NAMES)
    for one, other in product(PARTS, PARTS):
        if one != other:
            names = [{name.casefold() for name, _ in found[part]} for part in (one, other)]
            assert names[0].isdisjoint(names[1])
            new = [words_of(names) - known for names in names]
            assert new[0] and new[0].isdisjoint(new[1])
    assert all(part_of(name) == part for part in PARTS for name, _ in found[part])


def test_the_split_is_by_name_in_any_spelling_and_has_its_sizes():
    assert part_of("Ada  Lovelace.") == part_of("ADA LOVELACE") == part_of("Ada Lovelace")
    counts = [sum(part_of(str(number)) == part for number in range(5000)) / 5000 for part in PARTS]
    assert counts == pytest.approx([0.6, 0.2, 0.2], abs=0.03)


def test_a_recombined_name_has_the_first_parts_of_one_name_and_the_last_of_another():
    known = words_of(NAMES)
    firsts, lasts = {name.split()[0] for name in NAMES}, {name.split()[-1] for name in NAMES}
    for name, has_new_part in invented(new_parts=0):
        assert not has_new_part and words_of([name]) <= known
        assert name.split()[0] in firsts and name.split()[-1] in lasts


def test_a_name_with_new_parts_has_a_word_that_no_name_has_made_of_pairs_of_letters_that_names_have():
    known, excluded = words_of(NAMES), ["Zorro Xylander"]
    pairs = {word[index : index + 2] for name in NAMES for word in name.split() for index in range(len(word))}
    for name, has_new_part in invented(new_parts=1, excluded=excluded):
        new = [word for word in name.split() if word.casefold() not in known]
        assert has_new_part and new
        for word in new:
            assert {word[index : index + 2] for index in range(len(word) - 1)} <= pairs
            assert word.casefold() not in words_of(excluded)


@pytest.mark.parametrize("new_parts", [0.0, 0.25, 0.5, 1.0])
def test_the_fraction_of_names_with_new_parts_is_that_of_the_settings(new_parts):
    names = UnknownNames(NAMES, part="training", new_parts=new_parts)
    generator = np.random.default_rng(0)
    count = sum(names.draw(generator).has_new_part for _ in range(1000))
    assert count / 1000 == pytest.approx(new_parts, abs=0.06)


@pytest.mark.parametrize("part", PARTS)
def test_names_depend_on_the_seed_and_not_on_the_order_of_lines(part):
    assert invented(part, seed=5) == invented(part, [*reversed(NAMES), *NAMES[:9], ""], seed=5)
    assert invented(part, seed=5) != invented(part, seed=6)
    assert invented(part, count=400)[:100] == invented(part, count=100)
    assert len({name for name, _ in invented(part)}) == 400


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("Ada King Lovelace", ["Ada", "King", "Lovelace"]),
        ("Ludwig van Beethoven", ["Ludwig", "van Beethoven"]),
        ("Miguel de la Cruz", ["Miguel", "de la Cruz"]),
        ("Sammy Davis Jr.", ["Sammy", "Davis Jr."]),
        ("John Smith (politician)", ["John", "Smith (politician)"]),
        ("Henry IV", ["Henry IV"]),
        ("ada byron lovelace", ["ada", "byron", "lovelace"]),
        ("Stephen of", ["Stephen", "of"]),
        ("鲁迅", ["鲁迅"]),
    ],
)
def test_the_parts_of_a_name(name, parts):
    assert name_parts(name) == parts


@pytest.mark.parametrize("names", [["ada byron", "grace hopper", "lise meitner"], ["ПЁТР ИЛЬИЧ", "Анна Павлова"], SOME])
def test_names_of_other_forms_are_recombined_and_imitated(names):
    for new_parts in (0, 1):
        assert len(invented(names=names, new_parts=new_parts, count=1)) == 1


@pytest.mark.parametrize(
    ("names", "new_parts", "message"),
    [
        (["Pelé", "Madonna"], 0.5, "unknown_name_new_parts: 1"),
        ([], 0.5, "0 of 0 names have a first and a last part"),
        (["A. B.", "C. D.", "X Y"], 1, "none of 3 names has a word of 3 letters"),
    ],
)
def test_names_that_cannot_be_imitated_are_refused(names, new_parts, message):
    with pytest.raises(ValueError, match=message):
        UnknownNames(names, part="training", new_parts=new_parts)


def test_too_few_names_end_in_one_error():
    names = UnknownNames(["Ada Lovelace", "Ada Byron"], part="training", new_parts=0)
    with pytest.raises(ValueError, match="2 names: too few names have different parts"):
        names.draw(np.random.default_rng(0))
    with pytest.raises(ValueError, match="ask for fewer"):
        invented(names=["Ada Lovelace", "Grace Hopper", "Lise Meitner"], new_parts=0, count=50)


def test_the_chain_gives_words_of_its_own_probability():
    chain = CharacterChain(["aba", "abb", "abab"], order=1)
    # in counts: a → b 4 times, a → end once; b → a twice, b → b once, b → end twice; the start → a 3 times
    counts_and_sums = [(3, 3), (4, 5), (1, 5), (2, 5)]
    expected = sum(math.log((count + 0.1) / (total + 0.1 * 3)) for count, total in counts_and_sums)
    assert chain.log_probability("abb") == pytest.approx(expected)
    assert chain.log_probability("xyz") < chain.log_probability("abb")
    generator = np.random.default_rng(0)
    drawn = [chain.draw(generator) for _ in range(300)]
    assert all(word is None or (3 <= len(word) <= 4 and word[:2] == "ab") for word in drawn) and any(drawn)
