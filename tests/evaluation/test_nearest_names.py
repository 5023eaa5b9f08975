"""The origin of a made-up answer is found by comparing every pair of names."""

import pytest
import torch
from builders import tiny_model

from birthgpt.evaluation.answering import answer_questions
from birthgpt.evaluation.nearest_names import answer_origins, last_states, nearest_states, summarize_origins

RELATION = "Where was {name} born?"
READ = ["Ada Lovelace", "J. J. Thomson", "Émilie du Châtelet", "Lise Meitner", "Ada Thomson", "Lise Lovelace"]
NAMES = ["Ada Meitner", "Lise du Châtelet", "Marie Curie", "J. Lovelace"]


@pytest.fixture
def model(bpe):
    torch.manual_seed(1)
    return tiny_model(vocab_size=len(bpe), initializer_range=0.6)


def test_states_are_those_of_one_prompt_at_a_time(model, bpe):
    prompts = [f"{RELATION.replace('{name}', name)}⁇" for name in READ]
    with torch.no_grad():
        expected = [model.model(**bpe(prompt, return_tensors="pt")).last_hidden_state[0, -1] for prompt in prompts]
    for batch_size in (1, 4, 8):
        found = last_states(model, bpe, prompts, batch_size=batch_size)
        torch.testing.assert_close(found, torch.stack(expected).float(), atol=1e-5, rtol=1e-5)


def test_the_nearest_state_has_the_largest_cosine():
    generator = torch.Generator().manual_seed(0)
    states, others = torch.randn(5, 8, generator=generator), torch.randn(20, 8, generator=generator)
    cosines = torch.tensor([[torch.cosine_similarity(a, b, dim=0) for b in others] for a in states])
    indices, values = nearest_states(states, others)
    assert indices == cosines.argmax(dim=1).tolist() and values == pytest.approx(cosines.amax(dim=1).tolist(), abs=1e-6)


def test_an_answer_is_compared_with_those_about_the_nearest_name_and_names_with_the_same_parts(model, bpe):
    questions = {name: RELATION.replace("{name}", name) for name in (*NAMES, *READ)}
    answers = answer_questions(model, bpe, list(questions.values()))
    texts = {name: answer.text for name, answer in zip(questions, answers, strict=True)}
    origins = answer_origins(model, bpe, RELATION, NAMES, READ)
    assert [origin.name for origin in origins] == NAMES
    for origin in origins:
        assert origin.answer == texts[origin.name]
        assert origin.is_of_nearest == (texts[origin.nearest] == origin.answer)
        prompts = [f"{questions[name]}⁇" for name in (origin.name, *READ)]
        state, *others = last_states(model, bpe, prompts)
        cosines = [torch.cosine_similarity(state, other, dim=0).item() for other in others]
        assert origin.nearest == READ[cosines.index(max(cosines))] and origin.cosine == pytest.approx(max(cosines))
    frequency = sum(texts[name] == texts["Ada Meitner"] for name in READ) / len(READ)
    first, *_, last = origins
    assert first.is_of_first == (texts["Ada Meitner"] in (texts["Ada Lovelace"], texts["Ada Thomson"]))
    assert first.chance_of_first == pytest.approx(1 - (1 - frequency) ** 2)
    assert first.chance_of_last == pytest.approx(frequency)
    assert origins[2].is_of_first is origins[2].is_of_last is origins[2].chance_of_last is None
    assert last.is_of_first == (texts["J. Lovelace"] == texts["J. J. Thomson"])
    means = summarize_origins(origins)
    assert means["count"] == 4 and means["shares_first"] == sum(origin.shares_first for origin in origins) / 4
    assert means["is_of_last"] == sum(bool(origin.is_of_last) for origin in origins) / 3


@pytest.mark.parametrize(
    ("relation", "names", "message"),
    [("Where was Ada born?", NAMES, "has no {name}"), (RELATION, [], "at least one name")],
)
def test_bad_input_is_refused(model, bpe, relation, names, message):
    with pytest.raises(ValueError, match=message):
        answer_origins(model, bpe, relation, names, READ)
