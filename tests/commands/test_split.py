"""Folds: every question is held out in one fold, and is a train question in all others."""

import json

import pytest
from datasets import Dataset

from birthgpt.commands.evaluate import EvaluateSettings, evaluate
from birthgpt.commands.split import SplitSettings, make_folds
from birthgpt.data.questions import load_questions
from birthgpt.settings import make_settings

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


PEOPLE = [f"P{number} Hill" for number in range(6)]
RICH_ROWS = [
    {"question": question.format(name), "answers": answers, "name": name, "relation": relation, "year": year}
    for year, name in enumerate(PEOPLE)
    for question, answers, relation in (
        ("Where does {} live?", [f"Town {year % 2}", "Elsewhere"], "home"),
        # the name is in its column alone
        ("What is the job?", ["poet"], "job"),
    )
]
FLAT_ROWS = [
    {"question": row["question"], "answer": answer, "name": row["name"], "relation": row["relation"], "note": "n"}
    for row in RICH_ROWS
    for answer in row["answers"]
]


def write_rows(path, rows):
    if path.suffix == ".tsv":
        path.write_text("\n".join(map("\t".join, [rows[0].keys(), *(row.values() for row in rows)])))
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        getattr(Dataset.from_list(rows), f"to_{path.suffix[1:]}")(path)
    return str(path)


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("q.jsonl", RICH_ROWS),
        ("q.parquet", RICH_ROWS),
        ("q.jsonl", FLAT_ROWS),
        ("q.csv", FLAT_ROWS),
        ("q.tsv", FLAT_ROWS),
    ],
)
def test_folds_have_the_columns_of_their_source(tmp_path, name, rows):
    source = write_rows(tmp_path / name, rows)
    folders = make_folds(SplitSettings(question_file=source, output_dir=str(tmp_path / "folds"), folds=3))
    suffix = ".tsv" if name.endswith(".tsv") else ".jsonl"
    whole = {tuple(map(str, row.values())) for row in load_questions(source).remove_columns("question_id")}
    for folder in folders:
        sides = [folder / f"{side}{suffix}" for side in ("train", "held_out")]
        # every row of the source, with all its columns, is on one side
        assert sorted(str(row) for file in sides for _, row in read_question_file(file)) == sorted(map(str, rows))
        loaded = [load_questions(str(file)).remove_columns("question_id") for file in sides]
        assert {tuple(map(str, row.values())) for side in loaded for row in side} == whole
        train, held_out = (set(side["name"]) for side in loaded)
        assert not train & held_out and train | held_out == set(PEOPLE)


def read_question_file(file):
    """The rows of a fold by their columns, read without the code that wrote them."""
    if file.suffix == ".jsonl":
        return [(file, json.loads(line)) for line in lines(file)]
    header, *rows = [line.split("\t") for line in lines(file)]
    return [(file, dict(zip(header, row, strict=True))) for row in rows]


def test_an_evaluation_of_a_fold_reports_by_relation_with_any_right_answer(tmp_path):
    source = write_rows(tmp_path / "q.jsonl", RICH_ROWS)
    folder, *_ = make_folds(SplitSettings(question_file=source, output_dir=str(tmp_path / "folds"), folds=3))
    files = {"question_file": str(folder / "held_out.jsonl"), "train_file": str(folder / "train.jsonl")}
    metrics = evaluate(make_settings(EvaluateSettings, **files, output_dir=str(tmp_path / "out"), baseline="Elsewhere"))
    assert {name: counts["accuracy"] for name, counts in metrics["slices"]["relation"].items()} == {"home": 1, "job": 0}


def test_what_json_cannot_express_is_refused_with_its_row(tmp_path):
    source = write_rows(tmp_path / "q.parquet", [{"question": f"{who}?", "answer": "A", "photo": b"x"} for who in "AB"])
    with pytest.raises(ValueError, match=r"q.parquet, row 0: this row cannot be written as JSON \(it contains bytes\)"):
        make_folds(SplitSettings(question_file=source, output_dir=str(tmp_path / "folds"), folds=2))
    assert not (tmp_path / "folds").exists()
