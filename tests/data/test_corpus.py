"""Reading biographies: every source has the same rows, line numbers never change, errors name the place."""

import csv
import json
import unicodedata

import datasets
import huggingface_hub
import pyarrow
import pyarrow.parquet
import pytest
from datasets import Dataset, DatasetDict
from datasets.distributed import split_dataset_by_node
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from birthgpt.data.corpus import FEATURES, corpus_report, load_corpus

# the third row is empty: it is left out, and the fourth keeps its number
TEXTS = [
    'Ada Lovelace. Born "in" London, NA .',
    "  Zoë M. Müller. Née à Köln .\t",
    "",
    "No name here .",
]
EXPECTED = [
    {"line_id": 0, "text": 'Ada Lovelace. Born "in" London, NA .', "name": "Ada Lovelace"},
    {"line_id": 1, "text": "Zoë M. Müller. Née à Köln .", "name": "Zoë M. Müller"},
    {"line_id": 3, "text": "No name here .", "name": ""},
]


def write_txt(path, columns):
    path.write_text("\n".join(columns["text"]), encoding="utf-8")


def write_windows_txt(path, columns):
    path.write_bytes(("\ufeff" + "\r\n".join(columns["text"]) + "\r\n").encode())


def write_csv(path, columns):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *zip(*columns.values(), strict=True)])


def write_jsonl(path, columns):
    path.write_text("\n\n".join(map(json.dumps, rows_of(columns))) + "\n", encoding="utf-8-sig")


def write_json_array(path, columns):
    path.write_text("\n" + json.dumps(rows_of(columns), indent=1), encoding="utf-8")


def write_parquet(path, columns):
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


def write_saved_dataset(path, columns):
    Dataset.from_dict(columns).save_to_disk(path)


def write_saved_splits(path, columns):
    DatasetDict({"test": Dataset.from_dict({"text": ["x"]}), "train": Dataset.from_dict(columns)}).save_to_disk(path)


def rows_of(columns):
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


WITH_COLUMNS = {
    "lines.csv": write_csv,
    "lines.jsonl": write_jsonl,
    "lines.json": write_json_array,
    "lines.parquet": write_parquet,
    "saved": write_saved_dataset,
    "saved_splits": write_saved_splits,
}
SOURCES = {"lines.txt": write_txt, "WINDOWS.TXT": write_windows_txt, **WITH_COLUMNS}

streamed_or_not = pytest.mark.parametrize("streaming", [False, True], ids=["in-memory", "streamed"])


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def read(source, **settings):
    return list(load_corpus(str(source), **settings))


def error_of(source, **settings):
    """The error message of reading a source. It has one line; its folder is removed."""
    with pytest.raises(ValueError) as caught:
        read(source, **settings)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.__cause__ is None
    return message.replace(f"{source.parent}/", "")


@streamed_or_not
@pytest.mark.parametrize("name", SOURCES)
def test_every_source_has_the_same_rows(tmp_path, name, streaming):
    SOURCES[name](tmp_path / name, {"text": TEXTS})
    corpus = load_corpus(str(tmp_path / name), streaming=streaming)
    assert corpus.features == FEATURES
    assert list(corpus) == EXPECTED


@streamed_or_not
@pytest.mark.parametrize("name", WITH_COLUMNS)
def test_columns_can_have_other_names(tmp_path, name, streaming):
    columns = {"person": ["Ada", " L. ", "", "Zoë"], "text": ["?"] * 4, "bio": TEXTS}
    WITH_COLUMNS[name](tmp_path / name, columns)
    rows = read(tmp_path / name, streaming=streaming, text_column="bio", name_column="person")
    assert rows == [row | {"name": person} for row, person in zip(EXPECTED, ["Ada", "L.", "Zoë"], strict=True)]


@streamed_or_not
def test_rows_of_a_pattern_are_numbered_in_the_order_of_the_file_names(tmp_path, streaming):
    for letter in "dbeca":
        (tmp_path / f"{letter}.txt").write_text(f"{letter} .\n\n")
    rows = read(tmp_path / "*.txt", streaming=streaming)
    assert [(row["line_id"], row["text"][0]) for row in rows] == list(zip(range(0, 10, 2), "abcde", strict=True))


@streamed_or_not
def test_two_stars_are_any_number_of_folders(tmp_path, streaming):
    for number, folder in enumerate(["", "a", "a/b", "a/b/c.txt"]):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "lines.txt").write_text(f"Line {number} .")
    rows = read(tmp_path / "**" / "*.txt", streaming=streaming)
    assert sorted(row["text"] for row in rows) == [f"Line {number} ." for number in range(4)]
    assert read(f"{tmp_path}/**", streaming=streaming) == rows


def test_a_cell_may_be_as_long_as_a_line(tmp_path):
    text = "Ada Byron. " + "a" * 200_000
    for name in ("lines.txt", "lines.csv", "lines.jsonl"):
        SOURCES[name](tmp_path / name, {"text": [text]})
        assert read(tmp_path / name)[0]["text"] == text


def test_a_file_name_may_contain_the_characters_of_a_pattern(tmp_path):
    (tmp_path / "lines[1].txt").write_text("First .")
    assert len(read(tmp_path / "lines[1].txt")) == 1


@streamed_or_not
def test_rows_of_a_hub_dataset_are_numbered_across_its_shards(offline, monkeypatch, streaming):
    def load_dataset(name, *, split, streaming):
        assert (name, split) == ("someone/lives", "validation")
        dataset = Dataset.from_dict({"text": TEXTS})
        return dataset.to_iterable_dataset(num_shards=2) if streaming else dataset

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert read("someone/lives", split="validation", streaming=streaming) == EXPECTED


def one_form(text):
    """NFC, without byte order marks, zero-width spaces and outer white space."""
    return unicodedata.normalize("NFC", "".join(c for c in text if c not in "\ufeff\u200b\u2060")).strip()


@settings(deadline=None, derandomize=True)
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="⁇□")), min_size=1))
@example(texts=["a\r\nb", "c\rd", '""', "None", "007"])
def test_csv_and_json_return_any_text(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("any")
    write_csv(folder / "lines.csv", {"text": texts, "other": ["x"] * len(texts)})
    write_jsonl(folder / "lines.jsonl", {"text": texts, "other": ["x"] * len(texts)})
    expected = [(number, text) for number, text in enumerate(map(one_form, texts)) if text]
    for name in ("lines.csv", "lines.jsonl"):
        if expected:
            column = {"name_column": "other"}
            assert [(row["line_id"], row["text"]) for row in read(folder / name, **column)] == expected
        else:
            assert error_of(folder / name) == f"{name}: no text in it"


BYRON = {"line_id": 0, "text": "Zoë Byron. Born in Köln .", "name": "Zoë Byron"}
FORMS = {
    "decomposed": unicodedata.normalize("NFD", "Zoë Byron. Born in Köln ."),
    "no-break spaces": "Zoë\u00a0Byron.\u00a0Born in Köln .",
    "a tab": "Zoë Byron.\tBorn in Köln .",
    "zero-width spaces": "\u200bZo\u200bë \u2060Byron. Born in Köln\u200b .",
    "marks of direction": "\u200eZoë\u200f Byron. Born in Köln .",
    "a joiner": "Zo\u200cë Byron. Born in Köln .",
    "a byte order mark inside": "\ufeffZoë Byron. Born in Köln .",
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_of_a_line_is_the_same_line(tmp_path, form):
    # the second file of two that were joined
    (tmp_path / "lines.txt").write_text(f"Ada. Born .\n{form}\n", encoding="utf-8")
    assert read(tmp_path / "lines.txt")[1] == BYRON | {"line_id": 1}
    write_csv(
        tmp_path / "lines.csv", {"text": [form], "person": [unicodedata.normalize("NFD", "Zoë\u00a0\u200bByron")]}
    )
    assert read(tmp_path / "lines.csv", name_column="person")[0]["name"] == "Zoë Byron"
    assert read(tmp_path / "lines.csv", name_column="person")[0]["text"].startswith("Zoë Byron.")


def test_the_text_behind_a_name_keeps_its_spaces_and_joiners(tmp_path):
    text = "Ada Byron. Born in  New\u00a0York, می\u200cخواهم, 👩\u200d🚀, soft\u00adly ."
    (tmp_path / "lines.txt").write_text(text, encoding="utf-8")
    assert read(tmp_path / "lines.txt")[0]["text"] == text


def test_a_changed_file_is_read_again(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_text("Old .")
    stream = load_corpus(str(path), streaming=True)
    assert [row["text"] for row in stream] == ["Old ."]
    path.write_text("New .")
    assert [row["text"] for row in stream] == [row["text"] for row in read(path)] == ["New ."]


def test_a_stream_reads_only_the_requested_lines(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_text("First .\n" * 10_000 + "⁇")
    stream = load_corpus(str(path), streaming=True)
    assert next(iter(stream))["line_id"] == 0
    assert "line 10001" in error_of(path, streaming=True)


def test_workers_and_processes_never_change_a_line_id(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(f"Person {number} ." for number in range(20)))
    stream = load_corpus(str(path), streaming=True).map(lambda row: row)
    expected = [(number, f"Person {number} .") for number in range(20)]

    by_workers = DataLoader(stream, batch_size=None, num_workers=2)
    by_processes = [row for rank in range(3) for row in split_dataset_by_node(stream, rank, world_size=3)]
    for rows in (stream, by_workers, by_processes, stream.shuffle(seed=0, buffer_size=7)):
        assert sorted((int(row["line_id"]), row["text"]) for row in rows) == expected


def test_the_report_counts_lines_and_names(tmp_path):
    texts = ["Ada Byron. A .", "Ada Byron. B .", "Ada Byron. C .", "Zoë Fan. D .", "nameless .", "Bo Li. E ."]
    names = ["Ada Byron", "Ada Byron", "Ada Byron", "Zoe Fan", "Someone", ""]
    write_csv(tmp_path / "lines.csv", {"text": texts, "person": names})
    source = str(tmp_path / "lines.csv")
    odd = {"names_longer_than_8_words": 0, "names_repeated_in_themselves": 0, "names_ending_in_one_letter": 0}
    by_rule = {"lines": 6, "lines_without_name": 1, "names_not_in_line": 0, "names_repeated": 1} | odd
    by_column = by_rule | {"names_not_in_line": 2}
    for streaming in (False, True):
        assert corpus_report(load_corpus(source, streaming=streaming)) == by_rule
        assert corpus_report(load_corpus(source, streaming=streaming, name_column="person")) == by_column


BAD_FILES = {
    "empty": ("lines.txt", b"", "lines.txt: no text in it"),
    "blank": ("lines.txt", b" \n\n", "lines.txt: no text in it"),
    "header-alone": ("lines.csv", b"text\n", "lines.csv: no text in it"),
    "empty-array": ("lines.json", b"[]", "lines.json: no text in it"),
    "null-texts": ("lines.jsonl", b'{"text": null}', "lines.jsonl: no text in it"),
    "mask": (
        "lines.txt",
        "A .\nB ⁇.".encode(),
        "lines.txt, line 2, character 3: '⁇' (U+2047) is a special token",
    ),
    "pad": (
        "lines.csv",
        'text\n"A\n."\n□'.encode(),
        "lines.csv, line 4, character 1: '□' (U+25A1) is a special",
    ),
    "mask-array": ("lines.json", b'["\\u2047"]', "lines.json, row 0: expected a JSON object, found str '⁇'"),
    "mask-row": (
        "lines.json",
        b'[{"text": "a"}, {"text": "\\u2047"}]',
        "lines.json, row 1, character 1: '⁇'",
    ),
    "surrogate": (
        "lines.jsonl",
        b'{"text": "\\ud800"}',
        "lines.jsonl, line 1: '\\ud800' is half of a surrogate pair",
    ),
    "number": (
        "lines.jsonl",
        b'{"text": "a"}\n{"text": 7}',
        "lines.jsonl, line 2: expected text, found int 7",
    ),
    "latin-1": ("lines.txt", b"A .\nZo\xeb .", "lines.txt, line 2: not UTF-8: byte 0xeb at offset 6"),
    "latin-1-csv": ("lines.csv", b"text\nZo\xeb .", "lines.csv, line 2: not UTF-8: byte 0xeb at offset 7"),
    "latin-1-json": (
        "lines.json",
        b'{"text": "\xeb"}',
        "lines.json, line 1: not UTF-8: byte 0xeb at offset 10",
    ),
    "utf-16": ("lines.txt", "Ada .".encode("utf-16"), "lines.txt, line 1: not UTF-8: byte 0xff at offset 0"),
    "cut-off": ("lines.txt", "Zoë".encode()[:-1], "lines.txt, line 1: not UTF-8: byte 0xc3 at offset 2"),
    "no-column": (
        "lines.csv",
        b"bio,person\nA,B",
        "lines.csv, line 2: no column 'text'; there are: bio, person",
    ),
    "no-key": (
        "lines.jsonl",
        b'{"text": "a"}\n\n{"x": 1}',
        "lines.jsonl, line 3: no column 'text'; there are: x",
    ),
    "same-columns": (
        "lines.csv",
        b"text,text\nA,B",
        "lines.csv, line 1: two columns of the same name in text, text",
    ),
    "surplus-cell": ("lines.csv", b"text\nA\nB,C", "lines.csv, line 3: 2 columns, but the header has 1"),
    "open-quote": (
        "lines.csv",
        b'text\n"A',
        "lines.csv, line 2: cannot be read as CSV: unexpected end of data",
    ),
    "not-json": ("lines.json", b'{"text": "a"}\n{text', "lines.json, line 2: cannot be read as JSON"),
    "not-an-array": ("lines.json", b'[\n{"text": "a"', "lines.json, line 2: cannot be read as JSON"),
    "not-parquet": ("lines.parquet", b"text", "lines.parquet: cannot be read as parquet: "),
    "other-format": ("lines.docx", b"text", "lines.docx: cannot read this kind of file; give one of .txt, "),
}


@streamed_or_not
@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_files_are_refused_with_their_place(tmp_path, name, content, message, streaming):
    (tmp_path / name).write_bytes(content)
    assert error_of(tmp_path / name, streaming=streaming).startswith(message)


def test_parquet_that_is_not_utf8_is_refused(tmp_path):
    latin = pyarrow.array([b"Zo\xeb"]).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"text": latin}), tmp_path / "lines.parquet")
    message = error_of(tmp_path / "lines.parquet")
    assert message.startswith("lines.parquet: cannot be read as parquet: ") and "UTF8" in message


def test_a_missing_name_column_is_named(tmp_path):
    (tmp_path / "lines.csv").write_text("text\nA .")
    assert error_of(tmp_path / "lines.csv", name_column="person") == (
        "lines.csv, line 2: no column 'person'; there are: text"
    )


@pytest.mark.parametrize("streaming", [False, True])
def test_a_missing_file_is_refused_at_once_with_the_nearest_name(tmp_path, streaming):
    (tmp_path / "wiki.txt").write_text("A .")
    with pytest.raises(ValueError, match=r"wikki\.txt: no such file; did you mean .*/wiki\.txt\?$"):
        load_corpus(str(tmp_path / "wikki.txt"), streaming=streaming)


def test_a_missing_folder_is_named(tmp_path):
    (tmp_path / "data").mkdir()
    message = error_of(tmp_path / "dta" / "wiki.txt")
    assert message == f"wiki.txt: no such file (there is no folder {tmp_path}/dta); did you mean {tmp_path}/data?"


def test_a_missing_file_without_a_similar_name_has_no_suggestion(tmp_path):
    assert error_of(tmp_path / "wiki.txt") == "wiki.txt: no such file"
    assert error_of(tmp_path / "*.txt") == "*.txt: no such file"


def test_an_unreachable_dataset_of_the_hub_is_refused(offline):
    with pytest.raises(ValueError, match="no/such-lives: no such file or folder, and split 'train' .* from the Hub"):
        read("no/such-lives")


def test_folders_that_are_not_a_saved_dataset_are_refused(tmp_path):
    assert "save_to_disk did not write" in error_of(tmp_path)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "state.json").write_text("{")
    assert error_of(tmp_path / "broken").startswith("broken: cannot be read as a saved dataset: ")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("saved_splits", "saved_splits: no split 'dev'; there are: test, train"),
        ("saved", "saved: contains a single dataset, no split 'dev'"),
        ("lines.txt", "lines.txt: a file has no split 'dev'; give the file of that split"),
    ],
)
def test_a_missing_split_is_refused(tmp_path, name, message):
    SOURCES[name](tmp_path / name, {"text": TEXTS})
    assert error_of(tmp_path / name, split="dev") == message
