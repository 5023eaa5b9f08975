"""Corpora in shards: joined they are the corpus in one file, an unfinished one is completed, memory stays constant."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from builders import read_lines

from birthgpt.data.sources import read_rows
from birthgpt.data.synthetic import (
    RelationSettings,
    SyntheticSettings,
    corpus,
    person_at,
    shuffle,
    write_related_people,
    write_synthetic_corpus,
)
from birthgpt.data.synthetic.related_people import _subject_at
from birthgpt.data.synthetic.shards import UNFINISHED, Piece
from birthgpt.settings import make_settings


def write_birthplaces(folder, **given):
    numbers = {"people": 200, "held_out": 20, "biographies_per_person": 3, "seed": 2, "test_inputs": 5}
    return write_synthetic_corpus(folder, **{**numbers, **given})


def write_relations(folder, seed=2, relations=("occupation", "spouse"), people=120, lines=4, left_out=6, **given):
    return write_related_people(
        folder,
        SyntheticSettings(people=people, held_out=20, biographies_per_person=lines),
        # two wordings in one order make less than 30 lines about each person
        make_settings(
            RelationSettings, relations=list(relations), left_out=left_out, wordings=2, sentence_order="fixed"
        ),
        seed=seed,
        test_inputs=4,
        **given,
    )


WRITERS = pytest.mark.parametrize("write", [write_birthplaces, write_relations])


def joined(folder) -> dict[str, bytes]:
    """The files of a folder without its card, shards of one file together."""
    files: dict[str, bytes] = {}
    for path in sorted(folder.iterdir()):
        if path.name != "README.md":
            name = re.sub(r"-\d{5}-of-\d{5}", "", path.name)
            files[name] = files.get(name, b"") + path.read_bytes()
    return files


def names(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_shard_has_its_number_and_that_of_all_in_its_name():
    assert Piece("wiki.txt", 1, 2).name == "wiki-00001-of-00002.txt"
    assert Piece("questions_train", 3, 16).name == "questions_train-00003-of-00016"
    assert Piece("wiki.txt").name == "wiki.txt"


@WRITERS
@pytest.mark.parametrize("shards", [2, 7, 16])
def test_joined_shards_are_the_corpus_in_one_file(write, shards, tmp_path):
    counts = write(tmp_path / "one")
    assert write(tmp_path / "many", shards=shards) == counts
    assert joined(tmp_path / "many") == joined(tmp_path / "one")
    (file,) = {Piece(name, 0, shards).name for name in ("wiki.txt", "biographies.txt")} & names(tmp_path / "many")
    counts_of_lines = [len(read_lines(path)) for path in (tmp_path / "many").glob(file.replace("-00000-", "-*-"))]
    assert len(counts_of_lines) == shards and max(counts_of_lines) - min(counts_of_lines) <= 1


def test_fewer_lines_than_asked_for_are_divided_too(tmp_path):
    for folder, shards in (("one", 1), ("many", 3)):
        write_relations(tmp_path / folder, lines=30, shards=shards)
    assert joined(tmp_path / "many") == joined(tmp_path / "one")


@WRITERS
def test_many_lines_have_one_order_for_any_number_of_shards(write, tmp_path, monkeypatch):
    module = f"birthgpt.data.synthetic.{'corpus' if write is write_birthplaces else 'relation_corpus'}"
    write(tmp_path / "shuffled")
    for name in (f"{module}.MAX_SHUFFLED", "birthgpt.data.synthetic.shuffle.MAX_SHUFFLED"):
        monkeypatch.setattr(name, 100)
    shuffle.line_order.cache_clear()
    write(tmp_path / "one")
    write(tmp_path / "many", shards=5)
    shuffle.line_order.cache_clear()
    few, one, many = (joined(tmp_path / folder) for folder in ("shuffled", "one", "many"))
    assert one == many
    (lines,) = (name for name in one if name in ("wiki.txt", "biographies.txt"))
    assert one.pop(lines) != few[lines]
    assert one == {name: content for name, content in few.items() if name != lines}
    assert sorted(many[lines].splitlines()) == sorted(few[lines].splitlines())


@pytest.mark.slow
@WRITERS
def test_any_number_of_processes_writes_the_same_bytes(write, tmp_path):
    write(tmp_path / "one")
    for processes in (2, 3):
        write(tmp_path / str(processes), shards=4, processes=processes)
        assert joined(tmp_path / str(processes)) == joined(tmp_path / "one")
    assert not multiprocessing.active_children()


def test_shards_are_read_as_one_source(tmp_path):
    write_birthplaces(tmp_path, shards=3)
    lines = [row["text"] for _, row in read_rows(str(tmp_path / "wiki-*-of-00003.txt"))]
    assert "".join(f"{line}\n" for line in lines).encode() == joined(tmp_path)["wiki.txt"]


# unfinished corpora


class Killed(BaseException):
    """What ends a writer at once."""


def kill_after(pieces, monkeypatch):
    """Let a corpus end in the middle of the file after so many complete ones."""
    module = "birthgpt.data.synthetic.corpus"
    write_questions, write_lines, written = corpus._write_questions, corpus.write_lines, []

    def ending(write):
        def write_or_end(path, *given, **named):
            if len(written) == pieces:
                path.write_text("half a line")
                raise Killed
            written.append(path)
            return write(path, *given, **named)

        return write_or_end

    monkeypatch.setattr(f"{module}._write_questions", ending(write_questions))
    monkeypatch.setattr(f"{module}.write_lines", ending(write_lines))
    return written


@pytest.mark.parametrize("pieces", [0, 2, 5, 9])
def test_a_killed_writer_leaves_no_file_and_a_second_call_completes_the_corpus(pieces, tmp_path, monkeypatch):
    write_birthplaces(tmp_path / "one")
    folder = tmp_path / "many"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(pieces, patch)
        write_birthplaces(folder, shards=4)
    assert [path.name for path in folder.iterdir()] == [UNFINISHED]
    with monkeypatch.context() as patch:
        written = kill_after(100, patch)
        write_birthplaces(folder, shards=4)
    # four shards of lines, four of questions, dev and test inputs
    assert len(written) == 10 - pieces
    assert joined(folder) == joined(tmp_path / "one")


@pytest.mark.parametrize("moved", range(0, 12, 3))
def test_a_writer_that_is_killed_while_it_moves_its_files_is_completed(moved, tmp_path, monkeypatch):
    write_birthplaces(tmp_path / "one")
    folder, replace, count = tmp_path / "many", os.replace, 0

    def replace_or_end(source, target):
        nonlocal count
        if os.path.dirname(target) == str(folder):
            if count == moved:
                raise Killed
            count += 1
        replace(source, target)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("birthgpt.data.synthetic.shards.os.replace", replace_or_end)
        patch.setattr("birthgpt.data.synthetic.shards.shutil.rmtree", replace_or_end)
        write_birthplaces(folder, shards=4)
        raise Killed
    write_birthplaces(folder, shards=4)
    assert joined(folder) == joined(tmp_path / "one")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"seed": 3}, "an unfinished corpus with seed=2, not 3: repeat its settings to complete it"),
        ({"shards": 5}, "an unfinished corpus with shards=4, not 5: "),
        ({"people": 300}, "an unfinished corpus with people=200, not 300: "),
        ({"shards": 1}, f"{UNFINISHED} exists already; remove it or name another folder"),
    ],
)
def test_an_unfinished_corpus_of_other_settings_is_refused(other, message, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(3, patch)
        write_birthplaces(tmp_path, shards=4)
    before = sorted((tmp_path / UNFINISHED).iterdir())
    with pytest.raises(ValueError, match=f"^output_dir: .*{re.escape(message)}"):
        write_birthplaces(tmp_path, **{"shards": 4, **other})
    assert sorted((tmp_path / UNFINISHED).iterdir()) == before


def test_relations_and_birthplaces_do_not_complete_each_other(tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(3, patch)
        write_birthplaces(tmp_path, shards=4)
    with pytest.raises(ValueError, match="is an unfinished corpus with "):
        write_relations(tmp_path, shards=4)


def test_a_complete_corpus_is_not_written_again_in_other_shards(tmp_path):
    write_birthplaces(tmp_path, shards=4)
    (tmp_path / "README.md").unlink()
    for shards in (1, 4, 5):
        with pytest.raises(ValueError, match="^output_dir: .*wiki-00000-of-00004.txt exists already"):
            write_birthplaces(tmp_path, shards=shards)


def test_a_file_of_somebody_else_is_never_replaced(tmp_path):
    (tmp_path / UNFINISHED).write_text("mine")
    with pytest.raises(ValueError, match=f"^output_dir: .*{UNFINISHED} has no settings.json"):
        write_birthplaces(tmp_path, shards=4)
    assert (tmp_path / UNFINISHED).read_text() == "mine"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_killed_processes_leave_nobody_behind_and_the_command_completes_their_corpus(tmp_path):
    write_birthplaces(tmp_path / "one", people=2000)
    command = [sys.executable, "-m", "birthgpt", "people", "--output_dir", str(tmp_path / "many")]
    given = "--people 2000 --held_out 20 --biographies_per_person 3 --seed 2 --test_inputs 5 --shards 40 --processes 2"
    process = subprocess.Popen([*command, *given.split()])
    unfinished = tmp_path / "many" / UNFINISHED
    wait_for(lambda: unfinished.is_dir() and list(unfinished.glob("*.counts.json")))
    process.kill()
    process.wait()
    assert [path.name for path in (tmp_path / "many").iterdir() if not path.name.startswith(".birthgpt")] == [
        UNFINISHED
    ]

    def is_still():
        before = sorted(path.name for path in unfinished.iterdir())
        time.sleep(1)
        return before == sorted(path.name for path in unfinished.iterdir())

    wait_for(is_still)
    subprocess.run([*command, *given.split()], check=True)
    assert joined(tmp_path / "many") == joined(tmp_path / "one")


def wait_for(condition, seconds=240):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


# size


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no resource module")
@pytest.mark.parametrize("given", [[], ["--relations", "all"]], ids=["birthplaces", "relations"])
@pytest.mark.parametrize("shards", [1, 4])
def test_memory_does_not_grow_with_the_number_of_people(given, shards, tmp_path):
    code = "import resource, sys; from birthgpt.cli import main; main(sys.argv[1:]); "
    code += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    unit = 1 if sys.platform == "darwin" else 1024

    def peak(people) -> float:
        """In megabytes, of a process that writes so many people."""
        sizes = ["--people", str(people), "--biographies_per_person", "1", "--shards", str(shards)]
        command = [sys.executable, "-c", code, "people", "--output_dir", str(tmp_path / str(people)), *sizes, *given]
        ran = subprocess.run(command, check=True, capture_output=True, text=True)
        return int(ran.stdout.split()[-1]) * unit / 1e6

    # in memory are a block of at most 50,000 lines without shards, and 10,000 lines with them
    assert peak(20_000) - peak(2_000) < (40 if shards == 1 else 16)


@pytest.mark.parametrize("relations", [None, ["birthplace", "spouse"]])
def test_shards_of_a_billion_people_are_written_one_at_a_time(relations, tmp_path, monkeypatch):
    """Two shards of so many that each has 100 lines; they need none of the others."""

    def write_two(output_dir, files, pieces, card, *, names, settings, processes):
        for shard in (7, 9_000_000):
            files.write(Piece(names[0], shard, 10**7), tmp_path)
        raise Killed

    module = "corpus" if relations is None else "relation_corpus"
    monkeypatch.setattr(f"birthgpt.data.synthetic.{module}.write_corpus", write_two)
    with pytest.raises(Killed):
        if relations is None:
            write_birthplaces(tmp_path, people=10**9, biographies_per_person=1)
        else:
            write_relations(tmp_path, people=10**9, lines=1, left_out=0, relations=relations)
    lines = [line for path in tmp_path.iterdir() for line in read_lines(path)]
    assert len(lines) == len(set(lines)) == 200
    # most people have two last names
    assert sum(bool(re.match(r"[^-]+-[^-]+ |.* \w+-\w+\. ", line)) for line in lines) > 150


def test_people_left_out_are_the_same_for_more_than_a_million_people():
    few = [_subject_at(100 + number, people=100, left_out=6, seed=1).name for number in range(6)]
    many = [_subject_at(5_000_000 + number, people=5_000_000, left_out=6, seed=1).name for number in range(6)]
    assert few == many == [person.name for person in people_at(range(999_994, 1_000_000), 1)]
    around = [_subject_at(number, people=5_000_000, left_out=6, seed=1).name for number in range(999_992, 999_996)]
    assert around == [person.name for person in people_at((999_992, 999_993, 1_000_000, 1_000_001), 1)]


def people_at(indices, seed):
    return [person_at(index, seed) for index in indices]
