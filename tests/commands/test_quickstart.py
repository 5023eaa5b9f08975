"""The quickstart with several relations: its files, and its table by relation."""

import pytest

from birthgpt.commands.quickstart import QuickstartSettings, Runner, evaluations, make_people, table_by_relation
from birthgpt.data.questions import load_questions
from birthgpt.data.synthetic import RelationCorpus, write_synthetic_corpus
from birthgpt.evaluation.metrics import compute_metrics
from birthgpt.settings import parse_settings
from birthgpt.utils.tables import percent

FEW = ["--people", "100", "--held_out", "10", "--biographies_per_person", "1"]


@pytest.fixture
def start(tmp_path):
    """Write the people of a quickstart; returns its corpus and its runner."""

    def start(*arguments):
        folder = tmp_path / "quickstart"
        settings = parse_settings(QuickstartSettings, ["--output_dir", str(folder), *FEW, *arguments])
        return make_people(settings, folder / "people"), Runner(settings, folder)

    return start


def test_without_relations_the_files_are_those_of_birthplaces_alone(start, tmp_path):
    corpus, run = start()
    write_synthetic_corpus(tmp_path / "same", people=100, held_out=10, biographies_per_person=1, seed=0)
    for path in (run.lines, run.train, run.dev):
        assert path.read_bytes() == (tmp_path / "same" / path.name).read_bytes()
    assert [name for name, *_ in evaluations(corpus, run)] == [
        "most common place", "without pretraining", "with pretraining",
    ]  # fmt: skip


def test_with_relations_an_earlier_quickstart_is_replaced_by_people_who_have_them(start):
    _, birthplaces = start()
    corpus, run = start("--relations", "employer", "field", "--wordings", "1")
    assert isinstance(corpus, RelationCorpus) and len(corpus.relations) == 2
    assert all(path.is_file() for path in (run.lines, run.train, run.dev, run.new_wordings))
    assert not birthplaces.lines.exists()


def test_the_table_tells_the_accuracy_of_each_relation(start):
    corpus, run = start("--relations", "employer", "field")
    wrong = {
        "without pretraining": {"employer", "field"},
        "with pretraining": {"field"},
        "new wordings": set(),
    }
    rows = []
    for name, questions, source in evaluations(corpus, run):
        asked = load_questions(str(questions))
        if "baseline" in source:
            rows.append(run.evaluate(name, questions, **source))
            continue
        predictions = ["nowhere" if row["relation"] in wrong[name] else row["answer"] for row in asked]
        rows.append({"name": name, **compute_metrics(asked, predictions, [])})
    constant = {relation: percent(counts["accuracy"]) for relation, counts in rows[0]["slices"]["relation"].items()}
    assert {line.split()[0]: line.split()[1:] for line in table_by_relation(rows).splitlines()[-2:]} == {
        "employer": [constant["employer"], "0.0", "100.0", "100.0"],
        "field": [constant["field"], "0.0", "0.0", "100.0"],
    }


def test_one_relation_has_no_table(start):
    _, run = start()
    assert table_by_relation([run.evaluate("most common place", run.dev, baseline="most_common")]) is None
