"""Questions are made of what patterns find for certain in lines."""

import json

import pytest
from builders import read_lines

from birthgpt.commands.extract import COMMAND, ExtractSettings, extract
from birthgpt.data.corpus import load_corpus
from birthgpt.data.extraction import builtin_patterns, extract_facts
from birthgpt.settings import make_settings

PATTERNS = """parts:
  year: '1[0-9]{3}'
relations:
  team:
    patterns: ['plays for (?P<answer>[A-Z]\\w+)']
    questions: ["Which team does {name} play for?", "Where does {name} play?"]
    new_questions: ["Who is the team of {name}?"]
  year:
    patterns: ['since (?P<answer>%{year})']
    questions: ["Since when does {name} play?"]
"""
LINES = [f"Player {chr(65 + n)}alo. Player {chr(65 + n)}alo plays for Elk since {1900 + n} ." for n in range(20)]


@pytest.fixture
def write(tmp_path):
    """Write lines, patterns and held-out questions, and extract."""

    def write(lines=LINES, patterns=PATTERNS, held_out=("Where was Player Balo born?\tRome",), **settings):
        for name, content in (("lines.txt", lines), ("F.yaml", [patterns]), ("dev.tsv", held_out)):
            (tmp_path / name).write_text("\n".join(content) + "\n", encoding="utf-8")
        given = {"corpus_file": "lines.txt", "patterns": "F.yaml", "output_dir": "D"}
        paths = {name: str(tmp_path / path) for name, path in given.items()}
        held_out_file = [str(tmp_path / "dev.tsv")]
        return extract(make_settings(ExtractSettings, **paths, held_out_file=held_out_file, **settings))

    return write


def rows_of(tmp_path, name):
    return [json.loads(line) for line in read_lines(tmp_path / "D" / f"questions_{name}.jsonl")]


def test_lines_become_questions_and_held_out_people_are_never_trained_on(write, tmp_path, capsys):
    extraction = write()
    COMMAND.show(extraction)
    printed = capsys.readouterr().out.splitlines()
    # Player Balo is given, and a tenth of the other 19 is drawn
    assert [line.split()[:5] for line in printed[-2:]] == [
        ["team", "20", "17", "3", "1"],
        ["year", "20", "17", "3", "20"],
    ]
    train, dev = (rows_of(tmp_path, name) for name in ("train", "dev"))
    people = [{row["name"] for row in rows} for rows in (train, dev)]
    assert "Player Balo" in people[1] and not people[0] & people[1]
    assert {row["relation"]: row["answer"] for row in dev if row["name"] == "Player Balo"} == {
        "team": "Elk",
        "year": "1901",
    }
    assert all(row["question"] == row["wording"].replace("{name}", row["name"]) for row in train)
    pairs = [(row["question"], row["answer"]) for row in dev]
    assert [tuple(line.split("\t")) for line in read_lines(tmp_path / "D" / "questions_dev.tsv")] == pairs
    assert {row["name"] for row in rows_of(tmp_path, "new_wordings")} == people[1]


def test_only_certain_facts_are_asked_for(write, tmp_path):
    lines = [
        "Bo Li. Bo plays for Elk and plays for Owls .",
        "Al Fox. Al plays for Fox .",
        "Cy Ray. Cy plays for Elk .",
        "Cy Ray. Cy plays for Owls .",
        "Di May. Di plays for Elk .",
        "Di May. Di plays for Elk since 1900 .",
    ]
    assert write(lines, held_out_ratio=0).lines_matched == {"team": 6, "year": 1}
    asked = {(row["name"], row["relation"], row["answer"]) for row in rows_of(tmp_path, "train")}
    assert asked == {("Di May", "team", "Elk"), ("Di May", "year", "1900")}


def test_the_same_settings_write_the_same_files(write, tmp_path):
    write(seed=3)
    first = {path.name: path.read_bytes() for path in (tmp_path / "D").iterdir()}
    (tmp_path / "D").rename(tmp_path / "earlier")
    write(seed=3)
    assert {path.name: path.read_bytes() for path in (tmp_path / "D").iterdir()} == first
    with pytest.raises(ValueError, match="exists already"):
        write(seed=3)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("?P<answer>%", "?:%", r"F.yaml, line 9, relation year: the pattern .* has no group `answer`"),
        ("plays for (", "plays for ((", r"F.yaml, line 5, relation team: .* is not a regular expression: missing \)"),
        ("%{year}", "%{yaer}", "line 9, relation year: %{yaer} is not a part; did you mean 'year'"),
        ("Since when does {name}", "Since when does {team}", "asks about nobody"),
        ("since (", "nowhere (", None),
        ("plays", "swims", "no line matches a pattern"),
    ],
)
def test_mistakes_name_file_relation_and_what_is_wrong(write, old, new, message, caplog):
    patterns = PATTERNS.replace(old, new)
    if message is None:
        write(patterns=patterns)
        assert "no line matches a pattern of year" in caplog.text
        return
    if new == "swims":
        patterns = patterns.replace("since (", "nowhere (")
    with pytest.raises(ValueError, match=message):
        write(patterns=patterns)


FACTS = {
    "Ada Tarn. Ada Tarn (born 3 May 1950 in Elk, Ohio) is a retired Danish poet and painter .": {
        "birth_year": "1950", "birth_date": "3 May 1950", "nationality": "Danish", "occupation": "poet and painter",
    },
    "Bo Vire. Bo Vire (May 3, 1801 Tarn -- 7 June 1850 Elk) was a chemist, born in Tarn .": {
        "birth_year": "1801", "birth_date": "May 3, 1801", "death_year": "1850", "death_date": "7 June 1850",
        "occupation": "chemist",
    },
    "Cy Moor. Born Otto Quill in Tarn, Moor is an American football coach .": {"alternative_name": "Otto Quill"},
    "Di Fenn. Her father was a Danish poet who died in 1850 .": {},
    "Ed Rook. Ed Rook (ca 1700 -- ca 1750) was a writer of letters .": {},
}  # fmt: skip


@pytest.mark.parametrize("line", FACTS)
def test_the_patterns_of_the_package_find_what_a_line_says_about_its_subject(line, tmp_path):
    (tmp_path / "lines.txt").write_text(line + "\n", encoding="utf-8")
    found = extract_facts(load_corpus(str(tmp_path / "lines.txt")), builtin_patterns()).subjects
    values = {relation: answer for subject in found for relation, answer in subject.values.items() if answer}
    # `American football` is a game
    assert {key: value for key, value in values.items() if (key, "Cy" in line) != ("occupation", True)} == FACTS[line]
