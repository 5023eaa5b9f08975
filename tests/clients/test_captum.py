"""Captum attributes answers to parts of the question: what it says is what the model computes."""

import pytest
import torch


def log_probability(model, tokenizer, question: str, answer: str) -> float:
    """The natural logarithm of p(answer | question ⁇), by one forward pass."""
    prompt = tokenizer(f"{question}⁇")["input_ids"]
    tokens = tokenizer(f"{question}⁇{answer}")["input_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0, len(prompt) - 1 : -1].log_softmax(dim=-1)
    return logits[range(len(tokens) - len(prompt)), tokens[len(prompt) :]].sum().item()


def test_the_score_of_a_part_of_a_name_is_what_its_replacement_costs(run, workspace):
    scores = run("captum_ablation")["scores"]
    wordings = ("Frida Bastino", "Joel Bastino", "Frida Clauson")
    found = [
        log_probability(*workspace.load(), f"Which place is {name} a native of?", "Elmwick, TX") for name in wordings
    ]
    assert scores.tolist() == pytest.approx([found[0] - found[1], found[0] - found[2]], abs=1e-3)


def test_gradients_have_a_score_for_every_token_of_the_question(run, workspace):
    scores, (_, tokenizer) = run("captum_gradients")["scores"], workspace.load()
    tokens = tokenizer("Which place is Frida Bastino a native of?⁇")["input_ids"]
    assert [token for token, _ in scores] == tokenizer.convert_ids_to_tokens(tokens)
    assert any(abs(score) > 1e-3 for _, score in scores)
