"""The mixture of models is compared with its definition, pair by pair."""

import math

import pytest
import torch
from builders import tiny_model

from birthgpt.evaluation.answering import answer_questions
from birthgpt.evaluation.ensembling import answer_log_probabilities, ensemble_answers

QUESTIONS = ["Where was Ada Lovelace born?", "Where was J. J. Thomson born?", "Ada?", "Who?"]


def seeded_model(tokenizer, seed: int):
    torch.manual_seed(seed)
    return tiny_model(vocab_size=len(tokenizer), initializer_range=0.6)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize("kind", ["bpe", "characters"])
def test_the_probability_of_an_answer_is_the_product_over_its_tokens(kind, batch_size, request):
    tokenizer = request.getfixturevalue(kind)
    model, answers = seeded_model(tokenizer, 0), ["London", "Man", "", "Paris and Rome"]
    expected = []
    for question, answer in zip(QUESTIONS, answers, strict=True):
        prompt = tokenizer(f"{question}⁇")["input_ids"]
        reply = [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        total = 0.0
        for token in reply:
            total += model(torch.tensor([prompt])).logits[0, -1].log_softmax(dim=-1)[token].item()
            prompt = [*prompt, token]
        expected.append(total)
    actual = answer_log_probabilities(model, tokenizer, QUESTIONS, answers, batch_size=batch_size)
    assert actual == pytest.approx(expected, abs=1e-4)


def test_one_member_answers_as_it_does_alone(bpe):
    model = seeded_model(bpe, 2)
    alone = [answer.text for answer in answer_questions(model, bpe, QUESTIONS, max_new_tokens=6)]
    assert [answer.text for answer in ensemble_answers([(model, bpe)], QUESTIONS, max_new_tokens=6)] == alone


def test_the_mixture_decides_among_the_answers_of_the_members(bpe):
    members = [(seeded_model(bpe, seed), bpe) for seed in range(3)]
    given = [answer_questions(*member, QUESTIONS, max_new_tokens=6) for member in members]
    mixed = ensemble_answers(members, QUESTIONS, max_new_tokens=6)
    for index, (question, best) in enumerate(zip(QUESTIONS, mixed, strict=True)):
        probabilities = {
            answers[index].text: sum(
                math.exp(answer_log_probabilities(*member, [question], [answers[index].text])[0]) for member in members
            )
            / 3
            for answers in given
        }
        assert best.text == max(probabilities, key=probabilities.get)
        assert math.exp(best.log_probability) == pytest.approx(probabilities[best.text], rel=1e-3)


@pytest.mark.parametrize("spoil", [torch.nan, torch.inf, 0.0])
def test_scores_that_rank_no_token_give_no_probability(bpe, spoil):
    model = tiny_model(vocab_size=len(bpe), tie_word_embeddings=False)
    torch.nn.init.constant_(model.lm_head.weight, spoil)
    with pytest.raises(ValueError, match="not finite, or equal for all tokens"):
        answer_log_probabilities(model, bpe, QUESTIONS[:1], ["London"])
    model.name_or_path = "runs/second"
    with pytest.raises(ValueError, match="scores of runs/second for .* are not finite, or equal for all tokens"):
        ensemble_answers([(seeded_model(bpe, 0), bpe), (model, bpe)], QUESTIONS)


def test_no_question_has_no_answer(bpe):
    assert ensemble_answers([(seeded_model(bpe, 0), bpe)], []) == []


def test_answers_that_fill_the_model_have_a_probability(characters):
    torch.manual_seed(0)
    config = {"position_embedding_type": "learned", "max_position_embeddings": 40, "initializer_range": 0.6}
    members = [(tiny_model(vocab_size=len(characters), **config), characters) for _ in range(2)]
    (answer,) = ensemble_answers(members, ["Where was Ada Lovelace b?"])
    assert math.isfinite(answer.log_probability)
    # tokens that do not fit are not counted
    fitting, cut, far_beyond = (
        answer_log_probabilities(*members[0], ["Ada?"], ["a" * length])[0] for length in (35, 36, 50)
    )
    assert fitting != cut == far_beyond


def test_no_member_is_refused():
    with pytest.raises(ValueError, match="at least one model"):
        ensemble_answers([], QUESTIONS)
