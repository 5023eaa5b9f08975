"""The tasks for lm-evaluation-harness that come with the package give the answers and probabilities of the model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from birthgpt.cli import main
from birthgpt.commands.loading import load_model_and_tokenizer
from birthgpt.commands.push import PushSettings, export
from birthgpt.data.questions import answers_of, load_questions
from birthgpt.data.synthetic.related_people import RELATIONS
from birthgpt.data.tokenizers import question_prompt
from birthgpt.evaluation.answering import answer_questions
from birthgpt.evaluation.metrics import exact_match
from birthgpt.evaluation.squad import f1
from birthgpt.lm_eval import TASKS
from birthgpt.lm_eval.questions import load, load_choices, score

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def dev(tmp_path_factory):
    """Questions about invented people, of all relations."""
    folder = tmp_path_factory.mktemp("related")
    main(
        ["people", "--relations", "all", "--people", "100", "--held_out", "20", "--output_dir", str(folder / "people")]
    )
    return folder / "people" / "questions_dev.jsonl"


@pytest.fixture
def evaluated(finetuned):
    """A function that runs tasks on a model; it returns the report, the model and the tokenizer."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    model, tokenizer = load_model_and_tokenizer(str(finetuned))

    def run(*tasks: str, limit: int | None = None, **metadata):
        manager = TaskManager(include_path=TASKS, metadata=metadata, include_defaults=False)
        wrapped = HFLM(pretrained=model.eval(), tokenizer=tokenizer, batch_size=8)
        return lm_eval.simple_evaluate(wrapped, tasks=list(tasks), task_manager=manager, limit=limit)

    return run, model.eval(), tokenizer


def test_generated_answers_are_those_of_the_package(evaluated, people_files):
    run, model, tokenizer = evaluated
    questions = list(load_questions(str(people_files / "birth_dev.tsv")))
    report = run("birthgpt_answers", question_file=str(people_files / "birth_dev.tsv"))
    own = answer_questions(model, tokenizer, [row["question"] for row in questions], max_new_tokens=64)
    samples = sorted(report["samples"]["birthgpt_answers"], key=lambda sample: sample["doc_id"])
    assert [sample["filtered_resps"][0].strip() for sample in samples] == [answer.text for answer in own]
    found, texts = report["results"]["birthgpt_answers"], [answer.text for answer in own]
    assert found["exact_match,none"] == exact_match(texts, [answers_of(row) for row in questions])
    pairs = zip(texts, questions, strict=True)
    assert found["f1,none"] == pytest.approx(sum(f1(text, answers_of(row)) for text, row in pairs) / len(texts))


def test_choices_are_weighed_by_the_probabilities_of_the_model(evaluated, dev):
    run, model, tokenizer = evaluated
    report = run("birthgpt_choices", question_file=str(dev), limit=12)
    answers = {row["question"]: answers_of(row) for row in load_questions(str(dev))}
    right = 0
    for sample in report["samples"]["birthgpt_choices"]:
        document = sample["doc"]
        assert len(set(document["choices"])) == 4
        assert [choice in answers[document["question"]] for choice in document["choices"]].count(True) == 1
        own = []
        for choice in document["choices"]:
            prompt, reply = (
                tokenizer(text).input_ids for text in (question_prompt(tokenizer, document["question"]), choice)
            )
            with torch.no_grad():
                logits = model(torch.tensor([prompt + reply])).logits[0, len(prompt) - 1 : -1].log_softmax(dim=-1)
            own.append(logits[range(len(reply)), reply].sum().item())
        assert [float(response[0]) for response in sample["filtered_resps"]] == pytest.approx(own, abs=1e-3)
        right += max(range(4), key=own.__getitem__) == document["gold"]
    assert report["results"]["birthgpt_choices"]["acc,none"] == right / 12


@pytest.mark.parametrize(("kind", "metric"), [("answers", "exact_match"), ("choices", "acc")])
def test_a_group_has_a_task_for_each_relation(evaluated, dev, kind, metric):
    run, *_ = evaluated
    report = run(f"birthgpt_{kind}_by_relation", question_file=str(dev), limit=2)
    tasks = {f"birthgpt_{kind}_{relation}" for relation in RELATIONS}
    assert report["samples"].keys() == tasks
    for name in tasks:
        asked = {sample["doc"]["relation"] for sample in report["samples"][name]}
        assert asked == {name.removeprefix(f"birthgpt_{kind}_")}
    of_tasks = [report["results"][name][f"{metric},none"] for name in tasks]
    assert report["groups"][f"birthgpt_{kind}_by_relation"][f"{metric},none"] == pytest.approx(sum(of_tasks) / 10)


def test_files_name_every_relation_of_the_synthetic_people():
    for kind in ("answers", "choices"):
        group = yaml.safe_load(Path(TASKS, f"{kind}_by_relation.yaml").read_text())
        assert group["task"] == [f"birthgpt_{kind}_{relation}" for relation in RELATIONS]


def test_any_right_answer_counts_and_none_of_them_is_a_wrong_choice(tmp_path):
    rows = [
        {"question": f"Who knew {name}?", "answer": "", "answers": answers, "relation": "friend", "name": name}
        for name, answers in {"Ada": ["Mary", "Charles"], "Lise": ["Otto"], "Emmy": ["David", "Mary"]}.items()
    ]
    file = tmp_path / "friends.jsonl"
    file.write_text("".join(json.dumps({**row, "answer": row["answers"][0]}) + "\n" for row in rows))
    for row in load_choices(str(file))["test"]:
        assert [choice in row["answers"] for choice in row["choices"]].count(True) == 1
    document = load(str(file))["test"][0]
    assert score(document, [" Charles"]) == {"exact_match": 1.0, "f1": 1.0}
    assert score(document, ["charles"]) == {"exact_match": 0.0, "f1": 1.0}


def test_missing_questions_are_one_clear_line(dev, people_files, tmp_path):
    with pytest.raises(ValueError, match='name the questions by --metadata .{"question_file"'):
        load()
    with pytest.raises(ValueError, match="has no question of the relation 'pet'; it has birth_date, birthplace"):
        load(str(dev), relation="pet")
    with pytest.raises(ValueError, match="has no question of the relation 'pet'; it has no column relation"):
        load(str(people_files / "birth_dev.tsv"), relation="pet")
    (tmp_path / "same.tsv").write_text("Where was A born?\tRome\nWhere was B born?\tRome\n")
    with pytest.raises(ValueError, match="all questions have the same answer"):
        load_choices(str(tmp_path / "same.tsv"))


@pytest.mark.slow
def test_the_command_of_the_documentation_evaluates_an_export(finetuned, people_files, tmp_path):
    folder = export(PushSettings(model_name_or_path=str(finetuned), output_dir=str(tmp_path / "export")))
    command = [
        *(sys.executable, "-m", "lm_eval", "--model", "hf", "--device", "cpu", "--batch_size", "8", "--limit", "4"),
        *("--model_args", f"pretrained={folder},trust_remote_code=True", "--include_path", TASKS),
        *("--tasks", "birthgpt_answers,birthgpt_choices", "--output_path", str(tmp_path / "results")),
        *("--metadata", json.dumps({"question_file": str(people_files / "birth_dev.tsv")})),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "birthgpt_answers" in result.stdout and "birthgpt_choices" in result.stdout
    (file,) = (tmp_path / "results").rglob("results_*.json")
    assert json.loads(file.read_text())["results"].keys() >= {"birthgpt_answers", "birthgpt_choices"}
