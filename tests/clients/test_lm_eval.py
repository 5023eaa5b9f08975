"""lm-evaluation-harness finds the answers that the model learned, and weighs choices by the model's probabilities."""

import pytest
import torch

from birthgpt.data.tokenizers import question_prompt


def log_probability(model, tokenizer, question: str, answer: str) -> float:
    """The natural logarithm of p(answer | question ⁇), by one forward pass over the tokens."""
    prompt, reply = tokenizer(question_prompt(tokenizer, question)).input_ids, tokenizer(answer).input_ids
    with torch.no_grad():
        logits = model(torch.tensor([prompt + reply])).logits[0, len(prompt) - 1 : -1].log_softmax(dim=-1)
    return logits[range(len(reply)), reply].sum().item()


def test_answers_and_choices_are_those_of_the_model(run, workspace):
    report = run("lm_eval")["report"]
    assert report["results"]["birthgpt_answers"]["exact_match,none"] == 1
    samples = report["samples"]["birthgpt_choices"]
    assert len(samples) == len(workspace.known)
    model, tokenizer = workspace.load()
    right = 0
    for sample in samples:
        document = sample["doc"]
        own = [log_probability(model, tokenizer, document["question"], choice) for choice in document["choices"]]
        assert [float(response[0]) for response in sample["filtered_resps"]] == pytest.approx(own, abs=1e-3)
        right += max(range(4), key=own.__getitem__) == document["gold"]
    assert report["results"]["birthgpt_choices"]["acc,none"] == right / len(samples)
    assert right >= len(samples) - 1
