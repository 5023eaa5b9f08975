"""Biographies: the form of a line, the places in it, and the variety of templates."""

import pytest
from builders import name_of

from birthgpt.data.synthetic import biographies_of, generate_people, person_at
from birthgpt.data.synthetic.biographies import TEMPLATES


def test_every_template_of_a_birth_and_every_sentence_names_the_birthplace():
    assert all("{birthplace}" in template for template in TEMPLATES["births"])
    assert all("{birthplace}" in template or "{birth}" in template for template in TEMPLATES["sentences"])
    deeds = [*TEMPLATES["works"], *TEMPLATES["studies"], *TEMPLATES["homes"]]
    assert not any("{birth" in template for template in deeds)


def test_a_line_starts_with_the_name_and_names_the_birthplace_once():
    for person in generate_people(300, seed=2):
        for line in biographies_of(person, 10, seed=2):
            assert name_of(line) == person.name
            assert line.startswith(f"{person.name}. ") and line.endswith(" .")
            sentence = line[len(person.name) + 2 :]
            assert sentence[0] == sentence[0].upper()
            elsewhere = {person.workplace, person.study_place, person.residence}
            assert person.birthplace in sentence
            assert sentence.count(person.birthplace) == 1 or person.birthplace in elsewhere
            assert not set(line) & set("\t\n⁇□{}")


def test_lines_have_the_length_of_real_ones(crowd):
    lengths = sorted(len(biographies_of(person, 1, seed=0)[0]) for person in crowd[:2000])
    assert sum(80 <= length <= 200 for length in lengths) > 0.95 * len(lengths)
    assert 110 < lengths[1000] < 160


def test_most_lines_name_another_place_too_sometimes_first(crowd):
    before = after = 0
    for person in crowd[:1000]:
        (line,) = biographies_of(person, 1, seed=0)
        others = {person.workplace, person.study_place, person.residence} - {person.birthplace}
        positions = [line.index(place) for place in others if place in line]
        before += any(position < line.index(person.birthplace) for position in positions)
        after += any(position > line.index(person.birthplace) for position in positions)
    assert before > 200 and after > 200


def test_all_lines_are_different_and_a_larger_count_appends_lines():
    person = person_at(0, seed=0)
    lines = biographies_of(person, 1000, seed=0)
    assert len(lines) == len(set(lines)) == 1000
    assert lines[:3] == biographies_of(person, 3, seed=0)
    assert lines[:3] != biographies_of(person, 3, seed=1)


def test_lines_differ_by_more_than_the_person_and_the_facts():
    person = person_at(0, seed=0)
    # a sentence without its facts has no capital and no digit
    skeletons = {
        " ".join(word for word in line.split() if word.islower() or not word.isalnum())
        for line in biographies_of(person, 300, seed=0)
    }
    assert len(skeletons) > 100


@pytest.mark.parametrize("count", [-1, 1001])
def test_a_count_out_of_bounds_is_named_with_its_bounds(count):
    with pytest.raises(ValueError, match=f"^count: {count} is not a whole number from 0 to 1000$"):
        biographies_of(person_at(0, seed=0), count, seed=0)
