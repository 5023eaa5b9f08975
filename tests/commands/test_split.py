"""Folds: every question is held out in one fold, and is a train question in all others."""

import pytest

from birthgpt.commands.split import SplitSettings, make_folds

ROWS = [f"Where was P{number} born?\tTown {number % 3}" for number in range(23)] + ["Where was P3 born?\tElsewhere"]


@pytest.fixture
def question_file(tmp_path):
    path = tmp_path / "questions.tsv"
    path.write_text("\n".join(ROWS) + "\n")
    return path


def lines(path) -> list[str]:
    return path.read_text().splitlines()


def test_every_question_is_held_out_once_and_trained_on_otherwise(question_file, tmp_path):
    folders = make_folds(SplitSettings(question_file=str(question_file), output_dir=str(tmp_path / "folds"), folds=5))
    assert len(folders) == 5
    assert sorted(row for folder in folders for row in lines(folder / "held_out.tsv")) == sorted(ROWS)
    for folder in folders:
        train, held_out = lines(folder / "train.tsv"), lines(folder / "held_out.tsv")
        assert sorted(train + held_out) == sorted(ROWS)
        # both copies of a question are on the same side
        assert not {row.split("\t")[0] for row in train} & {row.split("\t")[0] for row in held_out}
        assert 4 <= len(held_out) <= 6


def test_every_wording_about_a_person_is_in_one_fold(tmp_path):
    names = [f"Person {letter}" for letter in "ABCDEFGHIJ"]
    wordings = ["Where was {} born?", "What is {}'s birthplace?", "In which town was {}\u00a0born?"]
    rows = [f"{wording.format(name)}\tTown" for wording in wordings for name in names]
    (tmp_path / "questions.tsv").write_text("\n".join(rows))
    folders = make_folds(
        SplitSettings(question_file=str(tmp_path / "questions.tsv"), output_dir=str(tmp_path / "folds"), folds=5)
    )
    held_out = [lines(folder / "held_out.tsv") for folder in folders]
    assert sorted(map(len, held_out)) == [6] * 5
    assert all(sum(name in row for row in part) in (0, 3) for name in names for part in held_out)


def test_the_names_of_a_corpus_are_known_and_questions_without_a_name_are_counted(tmp_path, caplog):
    (tmp_path / "lines.csv").write_text("bio,person\nBorn in Rome .,Bo Li\nBorn in Bonn .,Al Fox\n")
    rows = [
        "Home of Bo Li?\tRome",
        "Town of Bo Li?\tRome",
        "Home of Al Fox?\tBonn",
        "Town of Al Fox?\tBonn",
        "Who?\tAl",
    ]
    (tmp_path / "questions.tsv").write_text("\n".join(rows))
    settings = {"question_file": str(tmp_path / "questions.tsv"), "output_dir": str(tmp_path / "folds"), "folds": 3}
    columns = {"text_column": "bio", "name_column": "person"}
    folders = make_folds(SplitSettings(**settings, corpus_file=str(tmp_path / "lines.csv"), **columns))
    parts = {tuple(sorted(lines(folder / "held_out.tsv"))) for folder in folders}
    assert parts == {tuple(sorted(rows[:2])), tuple(sorted(rows[2:4])), ("Who?\tAl",)}
    assert "1 questions contain no known name, first 'Who?': they are split by question" in caplog.text
    caplog.clear()
    make_folds(SplitSettings(**settings))
    assert "5 questions contain no known name" in caplog.text


def test_a_line_break_in_a_question_is_written_as_a_space(tmp_path):
    path = tmp_path / "questions.jsonl"
    path.write_text(
        '{"question": "Where was Ann\\nBell born?", "answer": "Cork"}\n{"question": "Who?", "answer": "A\\tB"}'
    )
    folders = make_folds(SplitSettings(question_file=str(path), output_dir=str(tmp_path / "folds"), folds=2))
    rows = {row for folder in folders for row in lines(folder / "held_out.tsv")}
    assert rows == {"Where was Ann Bell born?\tCork", "Who?\tA B"}


def test_folds_depend_on_the_seed_alone(question_file, tmp_path):
    first, again, other = (
        lines(
            make_folds(SplitSettings(question_file=str(question_file), output_dir=str(tmp_path / name), seed=seed))[0]
            / "held_out.tsv"
        )
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first == again != other


@pytest.mark.parametrize(("folds", "limit"), [(1, "at least 2"), (24, "23")])
def test_an_impossible_number_of_folds_is_refused(question_file, tmp_path, folds, limit):
    with pytest.raises(ValueError, match=f"folds={folds}: .*{limit}"):
        make_folds(SplitSettings(question_file=str(question_file), output_dir=str(tmp_path / "folds"), folds=folds))
