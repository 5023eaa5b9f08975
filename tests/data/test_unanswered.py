"""Questions with found answers are appended to a file that finetune reads: once, after what is there."""

import multiprocessing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birthgpt.data.questions import load_questions
from birthgpt.data.unanswered import append_questions, check_unanswered_file

BORN = [("Where was Ada born?", "London"), ("Where was Émilie born?", "Paris")]


def test_pairs_are_appended_once_in_the_form_of_finetune(tmp_path):
    file = tmp_path / "new" / "unanswered.tsv"
    assert append_questions(file, BORN) == 2
    assert append_questions(file, [*BORN, ("Where  was\tLise born?", " Vienna\n")]) == 1
    assert file.read_text("utf-8").splitlines() == [
        "Where was Ada born?\tLondon", "Where was Émilie born?\tParis", "Where was Lise born?\tVienna",
    ]  # fmt: skip
    questions = load_questions(str(file))
    assert questions["answer"][:] == ["London", "Paris", "Vienna"] and questions["name"][0] == "Ada"
    assert [path.name for path in file.parent.iterdir()] == ["unanswered.tsv"]


def test_what_is_in_the_file_stays_byte_for_byte(tmp_path, caplog):
    file = tmp_path / "unanswered.tsv"
    # a byte order mark, line ends of Windows, and no line end at the end
    before = "\ufeffWhere was Ada born?\tRome\r\nWhere was Bo born?\tOslo".encode()
    file.write_bytes(before)
    assert append_questions(file, BORN) == 1
    assert file.read_bytes() == before + "\nWhere was Émilie born?\tParis\n".encode()
    assert "'Where was Ada born?' has the answer 'Rome' already, and keeps it; 'London' was found now" in caplog.text


@given(st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy")), max_size=4), max_size=5))
@settings(deadline=None, max_examples=50)
def test_each_question_has_the_answer_that_came_first(tmp_path_factory, batches):
    file = tmp_path_factory.mktemp("append") / "unanswered.tsv"
    first: dict[str, str] = {}
    for batch in batches:
        new = 0
        for name, answer in batch:
            new += name not in first
            first.setdefault(name, answer)
        pairs = [(f"Where was {name} born?", answer) for name, answer in batch]
        assert append_questions(file, pairs) == new
    if first:
        rows = load_questions(str(file))
        assert list(zip(rows["name"], rows["answer"], strict=True)) == list(first.items())
    else:
        assert not file.exists()


def append_many(file, first, barrier):
    """One process: 40 questions of its own, and 10 that the other process appends too."""
    barrier.wait(60)
    for number in range(first, first + 50):
        append_questions(file, [(f"Where was Person {number} born?", f"Town {number}")])


def test_two_processes_lose_no_row_and_repeat_none(tmp_path):
    # forked processes start at once, and compute nothing here
    file, context = tmp_path / "unanswered.tsv", multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    processes = [context.Process(target=append_many, args=(file, first, barrier), daemon=True) for first in (0, 40)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    lines = file.read_text().splitlines()
    assert sorted(lines) == sorted(f"Where was Person {number} born?\tTown {number}" for number in range(90))
    assert [path.name for path in tmp_path.iterdir()] == ["unanswered.tsv"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("u.csv", "", "give a name that ends with .tsv"),
        ("u.tsv", "Where was Ada born?\n", "expected question TAB answer, without a header"),
        ("u.tsv", "question\tanswer\tname\nWhere?\tRome\tAda\n", "expected question TAB answer, without a header"),
        ("u.tsv", "a\tb\tc\n", "line 1: 3 columns; expected question TAB answer"),
        ("u.tsv", "question\tanswer\n", "line 1: a header"),
    ],
)
def test_a_file_of_another_kind_is_refused_before_the_work_and_not_changed(tmp_path, name, content, message):
    file = tmp_path / name
    file.write_text(content)
    with pytest.raises(ValueError, match=message):
        check_unanswered_file(file, {})
    if file.suffix == ".tsv":
        with pytest.raises(ValueError, match=message):
            append_questions(file, BORN)
    assert file.read_text() == content


def test_inputs_links_and_folders_are_never_appended_to(tmp_path):
    table = tmp_path / "table.tsv"
    table.write_text("Where was Ada born?\tLondon\n")
    with pytest.raises(ValueError, match="is the input lookup_file"):
        check_unanswered_file(table, {"lookup_file": str(table)})
    (tmp_path / "link.tsv").symlink_to(table)
    (tmp_path / "folder.tsv").mkdir()
    for name, message in (("link.tsv", "is a link"), ("folder.tsv", "is not a regular file")):
        with pytest.raises(ValueError, match=message):
            append_questions(tmp_path / name, BORN)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("Where was Ada⁇ born?", "London"), "special token"),
        (("Where was Ada born?", " "), "an empty question or answer"),
        (("question", "answer"), "a header"),
    ],
)
def test_what_finetune_would_refuse_is_not_appended(tmp_path, pair, message):
    with pytest.raises(ValueError, match=message):
        append_questions(tmp_path / "unanswered.tsv", [pair])
    assert not any(tmp_path.iterdir())
