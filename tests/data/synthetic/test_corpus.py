"""The synthetic corpus: what its files contain, and when they appear."""

from collections import Counter
from itertools import islice

import pytest
from builders import name_of, read_answers, read_lines

from birthgpt.data.synthetic import biographies_of, generate_people, question, write_synthetic_corpus
from birthgpt.utils.files import sha256_of

FILES = {"wiki.txt", "birth_places_train.tsv", "birth_dev.tsv"}


@pytest.fixture(scope="module")
def people_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people") / "seed-0"
    write_synthetic_corpus(folder, people=1000, held_out=200, biographies_per_person=5, seed=0, test_inputs=50)
    return folder


def test_the_same_arguments_write_the_same_bytes(tmp_path):
    for folder, seed in (("one", 4), ("two", 4), ("other", 5)):
        write_synthetic_corpus(tmp_path / folder, people=150, held_out=30, biographies_per_person=2, seed=seed)
    assert {path.name for path in (tmp_path / "one").iterdir()} == FILES | {"README.md"}
    for name in FILES:
        one, two, other = ((tmp_path / folder / name).read_bytes() for folder in ("one", "two", "other"))
        assert one == two != other


def test_the_bytes_are_those_that_published_results_were_trained_on(tmp_path):
    write_synthetic_corpus(tmp_path, people=100, held_out=10, seed=0)
    assert {name: sha256_of(tmp_path / name)[:16] for name in FILES} == {
        "wiki.txt": "202fa3afb5ed0400",
        "birth_places_train.tsv": "38a515f86105f2b2",
        "birth_dev.tsv": "26f7a91b19151d0c",
    }


def test_every_person_has_lines_and_a_question_in_one_file_alone(people_files):
    lines_of = Counter(name_of(line) for line in read_lines(people_files / "wiki.txt"))
    train = read_answers(people_files / "birth_places_train.tsv")
    dev = read_answers(people_files / "birth_dev.tsv")
    test_inputs = read_lines(people_files / "birth_test_inputs.tsv")
    assert (len(train), len(dev), len(test_inputs)) == (750, 200, 50)
    questions = [*train, *dev, *test_inputs]
    assert len(set(questions)) == 1000
    assert {question(name): count for name, count in lines_of.items()} == dict.fromkeys(questions, 5)


def test_every_answer_is_in_all_lines_of_its_person(people_files):
    answers = read_answers(people_files / "birth_dev.tsv") | read_answers(people_files / "birth_places_train.tsv")
    for line in read_lines(people_files / "wiki.txt"):
        assert answers.get(question(name_of(line)), "") in line


def test_the_lines_are_those_of_all_people_in_another_order(people_files):
    lines = [line for person in generate_people(1000, 0) for line in biographies_of(person, 5, 0)]
    written = read_lines(people_files / "wiki.txt")
    assert sorted(written) == sorted(lines)
    # the mean distance of two random positions is a third of the length
    position_of = {line: position for position, line in enumerate(written)}
    moved = sum(abs(position_of[line] - position) for position, line in enumerate(lines)) / len(lines)
    assert moved == pytest.approx(len(lines) / 3, rel=0.15)


def test_people_are_generated_while_their_lines_are_written(generated, tmp_path, monkeypatch):
    generated_after_line = []

    def consume_a_few(path, lines, count, rng):
        path.touch()
        for _ in islice(lines, 6):
            generated_after_line.append(len(generated))

    monkeypatch.setattr("birthgpt.data.synthetic.corpus.write_shuffled", consume_a_few)
    write_synthetic_corpus(tmp_path, people=100, held_out=10, biographies_per_person=2, seed=0)
    assert generated_after_line == [1, 1, 2, 2, 3, 3]


def test_a_question_reads_as_in_the_real_files():
    assert question("Anna M. Keller") == "Where was Anna M. Keller born?"


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_one_constant_answer_is_right_for_few_dev_questions(seed, tmp_path):
    corpus = write_synthetic_corpus(tmp_path, people=1000, held_out=200, seed=seed)
    answers = Counter(read_answers(tmp_path / "birth_dev.tsv").values())
    assert corpus.most_common_dev_ratio == max(answers.values()) / 200 <= 0.05
    assert corpus.places >= 100


def test_the_returned_counts_are_those_of_the_files(tmp_path):
    corpus = write_synthetic_corpus(tmp_path, people=120, held_out=20, biographies_per_person=3, seed=0)
    everyone = read_answers(tmp_path / "birth_dev.tsv") | read_answers(tmp_path / "birth_places_train.tsv")
    assert corpus.people == len(everyone) == 120
    assert corpus.places == len(set(everyone.values()))
    assert corpus.held_out == len(read_lines(tmp_path / "birth_dev.tsv")) == 20
    assert corpus.lines == len(read_lines(tmp_path / "wiki.txt")) == 360
    assert corpus.test_inputs == 0


def test_corpora_of_different_sizes_have_the_same_dev_questions(tmp_path):
    for count in (100, 300):
        write_synthetic_corpus(tmp_path / str(count), people=count, held_out=40, seed=0)
    small, large = (read_lines(tmp_path / str(count) / "birth_dev.tsv") for count in (100, 300))
    assert small == large


def test_no_file_appears_when_writing_fails(tmp_path, monkeypatch):
    def fail_in_the_middle(path, people, answered):
        path.write_text("half")
        raise OSError("No space left on device")

    monkeypatch.setattr("birthgpt.data.synthetic.corpus._write_questions", fail_in_the_middle)
    with pytest.raises(OSError, match="No space"):
        write_synthetic_corpus(tmp_path, people=100, held_out=10, seed=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("existing", ["wiki.txt", "birth_test_inputs.tsv", "README.md"])
def test_existing_files_are_never_replaced_or_mixed_with(existing, tmp_path):
    (tmp_path / existing).write_text("mine")
    with pytest.raises(ValueError, match=f"^output_dir: .*{existing} exists already"):
        write_synthetic_corpus(tmp_path, people=100, held_out=10, seed=0)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_a_file_is_refused_as_folder(tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ValueError, match=f"^output_dir: {file} is not a folder; name another one$"):
        write_synthetic_corpus(file, people=100, held_out=10)


@pytest.mark.parametrize(
    ("field", "value", "bound"),
    [
        ("people", 99, "100"),
        ("people", 1_000_000_001, "1000000000"),
        ("shards", 0, "1"),
        ("shards", 181, "180"),
        ("processes", 0, "1"),
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
        write_synthetic_corpus(tmp_path / "people", **arguments)
    assert not (tmp_path / "people").exists()
