"""The multiple choice of lm-evaluation-harness weighs answers by the model's own probabilities."""

import json

import pytest
import torch

from birthgpt.data.tokenizers import question_prompt

lm_eval = pytest.importorskip("lm_eval")


def log_probability(model, tokenizer, question: str, answer: str) -> float:
    """The natural logarithm of p(answer | question ⁇), by one forward pass over the tokens."""
    prompt, reply = tokenizer(question_prompt(tokenizer, question)).input_ids, tokenizer(answer).input_ids
    with torch.no_grad():
        logits = model(torch.tensor([prompt + reply])).logits[0, len(prompt) - 1 : -1].log_softmax(dim=-1)
    return logits[range(len(reply)), reply].sum().item()


def test_multiple_choice_equals_the_probabilities_of_the_model(model_and_tokenizer, questions, tmp_path):
    from lm_eval.models.huggingface import HFLM

    model, tokenizer = model_and_tokenizer
    answers = sorted({(row["relation"], row["answer"]) for row in questions})
    rows = []
    for number, row in enumerate(questions):
        # answers to questions of the same relation: a place is not told from a date
        others = [text for relation, text in answers if relation == row["relation"] and text != row["answer"]]
        choices = [row["answer"], *(others[(number + step) % len(others)] for step in (0, 7, 11))]
        rows.append({"question": row["question"], "choices": choices})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    task = {
        "task": "facts",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "rows.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}⁇",
        "doc_to_choice": "choices",
        "doc_to_target": 0,
        "target_delimiter": "",
    }
    report = lm_eval.simple_evaluate(HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8), tasks=[task])
    samples = report["samples"]["facts"]
    assert len(samples) == len(rows)
    right = 0
    for sample in samples:
        document = sample["doc"]
        own = [log_probability(model, tokenizer, document["question"], choice) for choice in document["choices"]]
        assert [float(response[0]) for response in sample["filtered_resps"]] == pytest.approx(own, abs=1e-3)
        right += own[0] == max(own)
    assert report["results"]["facts"]["acc,none"] == right / len(rows)
    assert right >= 0.9 * len(rows)
