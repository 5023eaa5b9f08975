"""The embedded world: what its people, biographies and files promise."""

import os
import random
import subprocess
import sys
import tracemalloc
import unicodedata
from collections import Counter
from itertools import combinations

import pytest

from birthgpt.data import people as people_module
from birthgpt.data.people import (
    FIELDS,
    FIRST_NAMES,
    LAST_NAMES,
    OCCUPATIONS,
    PLACES,
    biographies_of,
    generate_people,
    main,
    person_at,
    question,
    write_world,
)

FILES = {"wiki.txt", "birth_places_train.tsv", "birth_dev.tsv"}


@pytest.fixture(scope="module")
def crowd():
    return list(generate_people(10_000, seed=5))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("worlds") / "seed-0"
    write_world(folder, people=1000, held_out=200, biographies_per_person=5, seed=0, test_inputs=50)
    return folder


def read_lines(path):
    text = path.read_bytes().decode("utf-8")
    assert text.endswith("\n") and "\r" not in text
    return text[:-1].split("\n")


def read_answers(path):
    return dict(line.split("\t") for line in read_lines(path))


def name_of(line):
    """The name rule, spelled out word by word: the name ends with the first word that ends a sentence."""
    words = line.split(" ")
    for position, word in enumerate(words[:-1]):
        stem = word.removesuffix(".")
        if stem != word and len(stem) > 1 and stem not in {"Jr", "Sr", "St", "Dr"}:
            return " ".join(words[: position + 1]).removesuffix(".")
    raise AssertionError(f"no name in {line!r}")


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


# the lists


def test_lists_hold_no_repetitions_and_composed_characters_only():
    for entries in (PLACES, FIRST_NAMES, LAST_NAMES, OCCUPATIONS, FIELDS):
        assert len(set(entries)) == len(entries)
        assert all(unicodedata.is_normalized("NFC", entry) and entry.strip() for entry in entries)
    assert len(PLACES) >= 200
    assert any(" " in place for place in PLACES)


def test_a_place_is_found_in_no_other_place_and_in_no_name():
    assert not [pair for pair in combinations(sorted(PLACES, key=len), 2) if pair[0] in pair[1]]
    assert not [(place, name) for place in PLACES for name in FIRST_NAMES + LAST_NAMES if place in name]


# the people


def test_a_person_depends_on_seed_and_index_alone():
    alone = person_at(70, seed=1)
    assert alone == list(generate_people(100, seed=1))[70] == list(generate_people(200, seed=1))[70]
    assert alone != person_at(70, seed=2)


def test_another_seed_gives_other_names_and_places():
    one, other = (list(generate_people(500, seed)) for seed in (0, 1))
    assert len({person.name for person in one} & {person.name for person in other}) < 25
    same = sum(a.birthplace == b.birthplace for a, b in zip(one, other, strict=True))
    assert same < 25


@pytest.mark.parametrize("seed", [0, 1])
def test_first_and_last_name_are_a_unique_pair_up_to_the_millionth_person(seed):
    # 20,000 independent draws from a million pairs would collide some two hundred times
    sample = random.Random(seed).sample(range(1_000_000), 20_000) + [999_999]
    names = [person_at(index, seed).name.split() for index in set(sample)]
    assert len({(words[0], words[-1]) for words in names}) == len(names)
    assert {len(words) for words in names} == {2, 3}


def test_names_of_neighbours_share_nothing_special(crowd):
    firsts = [person.name.split()[0] for person in crowd]
    assert set(firsts) == set(FIRST_NAMES)
    neighbours = sum(a == b for a, b in zip(firsts, firsts[1:], strict=False)) / len(firsts)
    assert neighbours < 2 / len(FIRST_NAMES)


def test_people_are_streamed():
    next(generate_people(1_000_000, seed=0))
    tracemalloc.start()
    for person, _ in zip(generate_people(1_000_000, seed=0), range(3000), strict=False):
        assert person.name
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # 3,000 people held at once are more than a megabyte
    assert peak < 200_000


def test_birthplaces_are_skewed_but_none_is_common(crowd):
    counts = [count for _, count in Counter(person.birthplace for person in crowd).most_common()]
    assert len(counts) == len(PLACES)
    assert counts[0] / len(crowd) < 0.03
    assert sum(counts[:20]) > 2 * sum(counts[-20:])


@pytest.mark.parametrize(
    "attribute",
    ["workplace", "study_place", "residence", "occupation", "field", "employer", "pronoun", "name"],
)
def test_a_birthplace_cannot_be_told_from(attribute, crowd):
    def group(value):
        return sum(map(ord, value)) % 7

    pairs = [(group(person.birthplace), group(getattr(person, attribute))) for person in crowd]
    statistic, freedom = chi_square(pairs)
    # the mean is `freedom`, the variance twice that: five standard deviations
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


# the biographies


def test_a_line_starts_with_the_name_and_holds_the_birthplace_once():
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


def test_as_many_wordings_as_asked_for_all_different_and_more_append_to_fewer():
    person = person_at(0, seed=0)
    lines = biographies_of(person, 1000, seed=0)
    assert len(set(lines)) == 1000
    assert lines[:3] == biographies_of(person, 3, seed=0)
    assert lines[:3] != biographies_of(person, 3, seed=1)


def test_wordings_differ_by_more_than_the_person_and_the_facts():
    person = person_at(0, seed=0)
    # what remains of a sentence without its facts: no capital, no digit
    skeletons = {
        " ".join(word for word in line.split() if word.islower() or not word.isalnum())
        for line in biographies_of(person, 300, seed=0)
    }
    assert len(skeletons) > 100


# the files


def test_the_same_arguments_give_the_same_bytes(tmp_path):
    for folder, seed in (("one", 4), ("two", 4), ("other", 5)):
        write_world(tmp_path / folder, people=150, held_out=30, biographies_per_person=2, seed=seed)
    assert {path.name for path in (tmp_path / "one").iterdir()} == FILES
    for name in FILES:
        one, two, other = ((tmp_path / folder / name).read_bytes() for folder in ("one", "two", "other"))
        assert one == two != other


def test_another_process_writes_the_same_bytes(world, tmp_path):
    numbers = "--people 1000 --held_out 200 --biographies_per_person 5 --seed 0 --test_inputs 50"
    # as a file, without the package and its slow imports
    command = [sys.executable, people_module.__file__, "--output_dir", str(tmp_path), *numbers.split()]
    subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": "123"}, check=True)
    for path in world.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_everyone_has_lines_and_is_asked_about_in_one_file_alone(world):
    lines_of = Counter(name_of(line) for line in read_lines(world / "wiki.txt"))
    train = read_answers(world / "birth_places_train.tsv")
    dev = read_answers(world / "birth_dev.tsv")
    test_inputs = read_lines(world / "birth_test_inputs.tsv")
    assert (len(train), len(dev), len(test_inputs)) == (750, 200, 50)
    questions = [*train, *dev, *test_inputs]
    assert len(set(questions)) == 1000
    assert {question(name): count for name, count in lines_of.items()} == dict.fromkeys(questions, 5)


def test_every_answer_stands_in_all_lines_of_its_person(world):
    answers = read_answers(world / "birth_dev.tsv") | read_answers(world / "birth_places_train.tsv")
    for line in read_lines(world / "wiki.txt"):
        assert answers.get(question(name_of(line)), "") in line


def test_a_question_reads_as_in_the_real_files():
    assert question("Anna M. Keller") == "Where was Anna M. Keller born?"


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_one_constant_answer_gets_nowhere(seed, tmp_path):
    summary = write_world(tmp_path, people=1000, held_out=200, seed=seed)
    answers = Counter(read_answers(tmp_path / "birth_dev.tsv").values())
    assert summary.most_common_dev_ratio == max(answers.values()) / 200 <= 0.05
    assert summary.places >= 100


def test_the_summary_counts_what_is_written(tmp_path):
    summary = write_world(tmp_path, people=120, held_out=20, biographies_per_person=3, seed=0)
    everyone = read_answers(tmp_path / "birth_dev.tsv") | read_answers(tmp_path / "birth_places_train.tsv")
    assert summary.people == len(everyone) == 120
    assert summary.places == len(set(everyone.values()))
    assert summary.held_out == len(read_lines(tmp_path / "birth_dev.tsv")) == 20
    assert summary.lines == len(read_lines(tmp_path / "wiki.txt")) == 360
    assert summary.test_inputs == 0


def test_worlds_of_different_sizes_ask_the_same_dev_questions(tmp_path):
    for count in (100, 300):
        write_world(tmp_path / str(count), people=count, held_out=40, seed=0)
    small, large = (read_lines(tmp_path / str(count) / "birth_dev.tsv") for count in (100, 300))
    assert small == large


@pytest.mark.parametrize("shard_lines", [50_000, 37])
def test_lines_are_shuffled_and_none_is_lost(shard_lines, tmp_path, monkeypatch):
    monkeypatch.setattr(people_module, "SHARD_LINES", shard_lines)
    write_world(tmp_path, people=200, held_out=20, biographies_per_person=3, seed=0)
    unshuffled = [line for person in generate_people(200, 0) for line in biographies_of(person, 3, 0)]
    lines = read_lines(tmp_path / "wiki.txt")
    assert sorted(lines) == sorted(unshuffled)
    # the mean distance of two random positions is a third of the length
    place_of = {line: place for place, line in enumerate(lines)}
    moved = sum(abs(place_of[line] - place) for place, line in enumerate(unshuffled)) / len(lines)
    assert moved == pytest.approx(len(lines) / 3, rel=0.15)
    assert {path.name for path in tmp_path.iterdir()} == FILES


def test_no_file_appears_when_writing_fails(tmp_path, monkeypatch):
    def fail_in_the_middle(path, people, answered):
        path.write_text("half")
        raise OSError("No space left on device")

    monkeypatch.setattr(people_module, "_write_questions", fail_in_the_middle)
    with pytest.raises(OSError, match="No space"):
        write_world(tmp_path, people=100, held_out=10, seed=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("existing", ["wiki.txt", "birth_test_inputs.tsv"])
def test_existing_files_are_never_replaced_or_mixed_with(existing, tmp_path):
    (tmp_path / existing).write_text("mine")
    with pytest.raises(ValueError, match=f"^output_dir: .*{existing} exists already"):
        write_world(tmp_path, people=100, held_out=10, seed=0)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("field", "value", "bound"),
    [
        ("people", 99, "100"),
        ("people", 1_000_001, "1000000"),
        ("people", 200.0, "whole number"),
        ("people", True, "whole number"),
        ("held_out", 0, "1"),
        ("held_out", 200, "199"),
        ("biographies_per_person", 0, "1"),
        ("biographies_per_person", 1001, "1000"),
        ("test_inputs", -1, "0"),
        ("test_inputs", 180, "179"),
    ],
)
def test_a_number_out_of_bounds_is_named_with_its_bound(field, value, bound, tmp_path):
    arguments = {"people": 200, "held_out": 20, "biographies_per_person": 1, "seed": 0} | {field: value}
    with pytest.raises(ValueError, match=rf"^{field}: {value} is not .*\b{bound}\b"):
        write_world(tmp_path / "world", **arguments)
    assert not (tmp_path / "world").exists()


@pytest.mark.parametrize("call", [generate_people, lambda count, seed: biographies_of(person_at(0, 0), count, 0)])
def test_counts_are_checked_at_the_call(call):
    with pytest.raises(ValueError, match="^count: -1 is not a whole number from 0 to"):
        call(-1, 0)


def test_an_index_past_the_last_person_is_refused():
    with pytest.raises(ValueError, match="^index: 1000000 "):
        person_at(1_000_000, seed=0)


# the command line


def test_command_line_prints_a_summary(tmp_path, capsys):
    main(["--output_dir", str(tmp_path), "--people", "300", "--held_out", "40"])
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert "1500 lines" in printed and "300 people" in printed and "40 held out" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--people", "50"], "people: 50 is not a whole number from 100 to 1000000"),
        (["--people", "many"], "argument --people: invalid int value: 'many'"),
        (["--held_out", "1000"], "held_out: 1000 is not a whole number from 1 to 999"),
        (["--persons", "100"], "unrecognized arguments: --persons 100"),
    ],
)
def test_command_line_tells_an_error_in_one_line(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--output_dir", str(tmp_path), *arguments])
    assert exit_.value.code == 2
    assert capsys.readouterr() == ("", f"python -m birthgpt.data.people: error: {message}\n")


def test_command_line_refuses_a_file_as_folder(tmp_path, capsys):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(SystemExit) as exit_:
        main(["--output_dir", str(file)])
    assert exit_.value.code == 2
    assert capsys.readouterr().err.endswith(f"output_dir: {file} is not a folder; name another one\n")
