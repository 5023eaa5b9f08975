"""An unknown answer is empty and never right, and a model can be made to answer."""

import copy
import math

import pytest
import torch
from builders import tiny_model

from birthgpt.data.tokenizers import add_unknown_answer_token, question_prompt
from birthgpt.evaluation.answering import answer_questions
from birthgpt.evaluation.ensembling import ensemble_answers
from birthgpt.evaluation.metrics import compute_metrics

QUESTIONS = ["Where was Ada Lovelace born?", "Ada?", "Who was J. J. Thomson?", "Lise?"]


def model_and_tokenizer(plain, unknown_bias: float, seed: int = 0):
    """A seeded model with another score of ␀ after ⁇, which ends its answer after ␀, and never writes ⁇."""
    tokenizer = copy.deepcopy(plain)
    add_unknown_answer_token(tokenizer)
    torch.manual_seed(seed)
    model = tiny_model(vocab_size=len(tokenizer), initializer_range=0.6, tie_word_embeddings=False)
    forward = model.forward

    def biased(input_ids, **inputs):
        output = forward(input_ids, **inputs)
        at_mask = input_ids[:, -output.logits.shape[1] :] == tokenizer.mask_token_id
        at_unknown = input_ids[:, -output.logits.shape[1] :] == tokenizer.unknown_answer_token_id
        output.logits[..., tokenizer.unknown_answer_token_id] += unknown_bias * at_mask
        output.logits[..., tokenizer.eos_token_id] += 1000 * at_unknown
        output.logits[..., tokenizer.mask_token_id] -= 1000
        return output

    model.forward = biased
    return model, tokenizer


@torch.no_grad()
def log_probability(model, tokenizer, question, tokens):
    """log p(tokens | question ⁇), token by token."""
    prompt, total = tokenizer(question_prompt(tokenizer, question))["input_ids"], 0.0
    for token in tokens:
        total += model(torch.tensor([prompt])).logits[0, -1].log_softmax(dim=-1)[token].item()
        prompt = [*prompt, token]
    return total


@pytest.mark.parametrize("kind", ["bpe", "characters"])
@pytest.mark.parametrize("num_beams", [1, 4])
def test_an_answer_that_begins_with_the_token_is_unknown_and_empty(kind, num_beams, request):
    model, tokenizer = model_and_tokenizer(request.getfixturevalue(kind), 1000.0)
    for answer in answer_questions(model, tokenizer, QUESTIONS, max_new_tokens=6, num_beams=num_beams):
        assert answer.is_unknown and (answer.text, answer.shown, answer.written) == ("", "unknown", "␀")


@pytest.mark.parametrize("kind", ["bpe", "characters"])
@pytest.mark.parametrize("num_beams", [1, 4])
def test_a_model_that_must_answer_gives_the_answer_without_the_token_and_its_own_probability(kind, num_beams, request):
    plain = request.getfixturevalue(kind)
    settings = {"max_new_tokens": 6, "num_beams": num_beams, "always_answer": True}
    model, tokenizer = model_and_tokenizer(plain, 5.0)
    # the token is never chosen if its score is low enough
    without, _ = model_and_tokenizer(plain, -1000.0)
    answers = answer_questions(model, tokenizer, QUESTIONS, **settings)
    expected = answer_questions(without, tokenizer, QUESTIONS, **settings | {"always_answer": False})
    for question, answer, other in zip(QUESTIONS, answers, expected, strict=True):
        assert not answer.is_unknown and answer.written == answer.shown == answer.text == other.text
        # unknown takes the rest of the probability at the first token
        prompt = tokenizer(question_prompt(tokenizer, question), return_tensors="pt")["input_ids"]
        with torch.no_grad():
            unknown = model(prompt).logits[0, -1].softmax(dim=-1)[tokenizer.unknown_answer_token_id].item()
        assert answer.log_probability == pytest.approx(other.log_probability + math.log1p(-unknown), abs=1e-4)


def test_a_model_without_the_token_answers_as_ever(bpe):
    torch.manual_seed(0)
    model = tiny_model(vocab_size=len(bpe), initializer_range=0.6)
    given = answer_questions(model, bpe, QUESTIONS, max_new_tokens=6)
    assert answer_questions(model, bpe, QUESTIONS, max_new_tokens=6, always_answer=True) == given
    assert not any(answer.is_unknown for answer in given)


@pytest.mark.parametrize("always_answer", [False, True])
def test_an_ensemble_weighs_unknown_as_one_answer(bpe, always_answer):
    sure, unsure = model_and_tokenizer(bpe, 1000.0, seed=0), model_and_tokenizer(bpe, 0.0, seed=1)
    torch.manual_seed(2)
    # a member that was never taught the token, with its own tokenizer
    plain = tiny_model(vocab_size=len(bpe), initializer_range=0.6), bpe
    mixed = ensemble_answers([sure, unsure, plain], QUESTIONS, max_new_tokens=6, always_answer=always_answer)
    for question, answer in zip(QUESTIONS, mixed, strict=True):
        assert answer.is_unknown == (not always_answer)
        if not always_answer:
            # ␀ ␃ by the first two; the third has no such token, and its bytes are as good as impossible
            ids = [unsure[1].unknown_answer_token_id, unsure[1].eos_token_id]
            expected = sum(math.exp(log_probability(*member, question, ids)) for member in (sure, unsure)) / 3
            assert math.exp(answer.log_probability) == pytest.approx(expected, abs=1e-3)


def test_metrics_count_unknown_as_wrong_and_report_its_share():
    questions = [{"question": f"{name}?", "answer": "Rome", "name": name} for name in ("Ada", "Bo", "Cy", "Di")]
    metrics = compute_metrics(questions, ["Rome", "", "Oslo", ""], [], unknown=[False, True, False, True])
    assert (metrics["accuracy"], metrics["unknown"], metrics["unknown_ratio"]) == (0.25, 2, 0.5)
    assert metrics["accuracy_of_answered"] == 0.5
    assert compute_metrics(questions, [""] * 4, [], unknown=[True] * 4)["accuracy_of_answered"] is None
    assert compute_metrics(questions, ["Rome"] * 4, [])["unknown"] == 0
