"""The quickstart: its people, its table by relation, and that it removes an earlier one only for a new one."""

import re

import pytest
import yaml

from birthgpt.cli import main
from birthgpt.commands.quickstart import (
    MOST_COMMON,
    NEW_WORDINGS,
    PEOPLE,
    PRETRAINED,
    WITH,
    WITHOUT,
    QuickstartSettings,
    Runner,
    accuracy_table,
    new_people,
    quickstart,
)
from birthgpt.data.questions import load_questions
from birthgpt.data.synthetic import write_related_people
from birthgpt.evaluation.metrics import compute_metrics
from birthgpt.settings import parse_settings

FEW = ["--people", "100", "--held_out", "10", "--biographies_per_person", "1"]

TINY = {"vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "save_steps": 0}
BUDGET = {"max_train_steps": 2, "tokens_per_batch": 256}
TINY_CONFIGS = {
    "pretrain": TINY | BUDGET | {"objective": "salient_spans", "question_ratio": 0.1},
    "finetune": BUDGET | {"validation_size": 20, "save_steps": 0},
    "finetune_without_pretraining": TINY | BUDGET,
}


@pytest.fixture
def settings(tmp_path):
    """The settings of a quickstart of few people and tiny models, with arguments that win over these."""
    (tmp_path / "configs").mkdir()
    for name, values in TINY_CONFIGS.items():
        write_config(tmp_path, name, values)

    def settings(*arguments):
        places = ["--output_dir", str(tmp_path / "quickstart"), "--config_dir", str(tmp_path / "configs")]
        return parse_settings(QuickstartSettings, [*places, *FEW, *arguments])

    return settings


@pytest.fixture
def start(settings, tmp_path):
    """Write the people of a quickstart; returns its corpus and its runner."""

    def start(*arguments):
        with new_people(settings(*arguments), tmp_path / "quickstart") as (corpus, _):
            pass
        return corpus, Runner(settings(*arguments), tmp_path / "quickstart")

    return start


def write_config(folder, name, values):
    # as a user writes it
    (folder / "configs" / f"{name}.yaml").write_text(yaml.safe_dump(values))


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


FORMS = {
    "birthplace": r"[A-Z][\w ]+(, [A-Z]\w+)?",
    "birth_date": r"[A-Z][a-z]+ \d{1,2}, \d{4}",
    "occupation": r"[a-z, ]+",
}


def test_by_default_answers_of_three_forms_are_asked_for_in_several_wordings(start):
    _, run = start("--held_out", "50")
    for name in ("dev", "new_wordings", "questions"):
        rows = list(load_questions(str(getattr(run, name))))
        for relation, form in FORMS.items():
            asked = [row for row in rows if row["relation"] == relation]
            assert len({row["question"].replace(row["name"], "") for row in asked}) > 1
            assert all(re.fullmatch(form, row["answer"]) for row in asked)
        assert {row["relation"] for row in rows} == FORMS.keys()
        assert any("," in row["answer"] for row in rows if row["relation"] == "birthplace")


def test_the_people_are_those_of_birthgpt_people(start, settings, tmp_path):
    _, run = start("--wordings", "3")
    given = settings("--wordings", "3")
    write_related_people(tmp_path / "same", given.synthetic, given.relation, seed=0)
    assert contents(run.folder / PEOPLE) == contents(tmp_path / "same")


def test_an_earlier_quickstart_is_replaced_by_other_relations(start):
    start()
    corpus, run = start("--relations", "employer", "field")
    assert [relation.relation for relation in corpus.relations] == ["employer", "field"]
    assert {row["relation"] for row in load_questions(str(run.dev))} == {"employer", "field"}


def metrics_of(run, name, wrong):
    """The metrics of a model that answers all questions rightly but those of some relations."""
    questions = load_questions(str(run.new_wordings if name == NEW_WORDINGS else run.dev))
    answers = ["nowhere" if row["relation"] in wrong else row["answer"] for row in questions]
    return {"name": name, **compute_metrics(questions, answers, [])}


def rows_of(table):
    """The cells of a table in plain text, by the first of each row."""
    return {line.split()[0]: line.split()[1:] for line in table.splitlines()[2:]}


def test_the_table_tells_the_accuracy_of_each_relation_and_of_all(start):
    corpus, run = start("--relations", "employer", "field")
    evaluated = [
        metrics_of(run, WITHOUT, {"employer", "field"}),
        metrics_of(run, WITH, {"field"}),
        metrics_of(run, NEW_WORDINGS, set()),
    ]
    table = accuracy_table(corpus, evaluated)
    assert re.split("  +", table.splitlines()[0]) == ["relation", WITHOUT, WITH, NEW_WORDINGS]
    assert rows_of(table) == {
        "employer": ["0.0", "100.0", "100.0"],
        "field": ["0.0", "0.0", "100.0"],
        "all": ["0.0", "50.0", "100.0"],
    }


def test_one_relation_has_one_row(start):
    corpus, run = start("--relations", "birthplace")
    metrics = run.evaluate(MOST_COMMON)
    assert rows_of(accuracy_table(corpus, [metrics])) == {"birthplace": [f"{100 * metrics['accuracy']:.1f}"]}


FAULTS = {
    "no such configuration": ("nowhere", {}, "nowhere/pretrain: there is no such configuration file"),
    "an unknown setting": (
        None,
        {"finetune_without_pretraining": {"hiden_size": 16}},
        "configs/finetune_without_pretraining: 'hiden_size' is not a setting of this command",
    ),
    "a value out of its bounds": (
        None,
        {"finetune": {"max_train_steps": 0}},
        "configs/finetune: max_train_steps=0: it must be at least 1",
    ),
    "sizes that do not fit together": (
        None,
        {"pretrain": {"num_attention_heads": 3}},
        "configs/pretrain: hidden_size=16",
    ),
    "too many questions held out": (
        None,
        {"finetune": {"validation_size": 1000}},
        "validation_size=1000 of 270 train questions",
    ),
    "another architecture than that of the checkpoint": (
        None,
        {"finetune": {"hidden_size": 8}},
        "configs/finetune: hidden_size=8 does not fit",
    ),
    "a training without a model": (None, {"pretrain": {"dry_run": True}}, "configs/pretrain: it trains no model"),
}
"""What is wrong: a folder of configurations, or changes of them; and the error."""


@pytest.mark.parametrize("fault", FAULTS)
def test_an_earlier_quickstart_stays_where_a_configuration_is_wrong(settings, start, tmp_path, fault):
    start()
    config_dir, changes, message = FAULTS[fault]
    for name, values in changes.items():
        write_config(tmp_path, name, TINY_CONFIGS[name] | values)
    wrong = settings("--seed", "1", *([] if config_dir is None else ["--config_dir", config_dir]))
    before = contents(tmp_path / "quickstart")
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        quickstart(wrong)
    assert contents(tmp_path / "quickstart") == before
    # the temporary folder is no place that a user knows
    assert "/tmp" not in str(error.value).replace(str(tmp_path), "")


def test_a_quickstart_prints_its_commands_a_table_and_answers(settings, tmp_path, capsys):
    quickstart(settings("--relations", "birthplace", "occupation"))
    shown = capsys.readouterr().out
    commands = [line.split() for line in shown.splitlines() if line.startswith("$ birthgpt ")]
    assert [words[2] for words in commands] == ["pretrain", "finetune", "finetune"]
    assert "accuracy (%) on 20 questions about the held-out people" in shown
    asked = [row["question"] for row in load_questions(str(tmp_path / "quickstart" / PEOPLE / "questions_dev.jsonl"))]
    assert [line for line in shown.splitlines() if line.startswith(tuple(asked[:4]))]

    # the same command replaces all of it
    written = contents(tmp_path / "quickstart").keys()
    quickstart(settings("--relations", "birthplace"))
    assert contents(tmp_path / "quickstart").keys() == written
    quickstart(settings("--relations", "birthplace", "occupation"))

    # a printed command makes the same weights, so nothing is left of the rehearsal
    _, _, command, *arguments = commands[0]
    arguments[arguments.index("--output_dir") + 1] = str(tmp_path / "again")
    main([command, *arguments])
    weights = [tmp_path / place / "model.safetensors" for place in ("again", f"quickstart/{PRETRAINED}")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
