"""Signals against loops over single questions, in every attention type and with any padding."""

import math

import pytest
import torch
from accelerate import Accelerator
from builders import CASES, LINES, case_model
from processes import in_two_processes

from birthgpt.data.tokenizers import (
    add_unknown_answer_token,
    question_prompt,
    train_character_tokenizer,
    unknown_answer_id,
)
from birthgpt.evaluation.answering import Answer, answer_questions, candidate_answers
from birthgpt.evaluation.name_likelihood import NameLikelihood
from birthgpt.evaluation.scoring import score_answers
from birthgpt.evaluation.signals import (
    SIGNALS,
    SignalSource,
    beam_signals,
    collect_signals,
    log_mean,
    name_ngram_norm,
)
from birthgpt.evaluation.wordings import Wordings
from birthgpt.model.ngrams import hash_ngrams

WORDINGS = Wordings([["Where was {name} born?", "{name} born in"]])
QUESTIONS = ["Where was Bo born?", "Where was Ada Lovelace born?", "Where was it?", "Where was Lise Meitner born?"]
NAMES = ["Ada Lovelace", "Lise Meitner", "Émilie du Châtelet"]


def make_tokenizer():
    tokenizer = train_character_tokenizer([*LINES, *QUESTIONS], 64)
    add_unknown_answer_token(tokenizer)
    return tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer()


def model_of(case, tokenizer):
    return case_model(case, vocab_size=len(tokenizer), pad_token_id=0, eos_token_id=tokenizer.eos_token_id)


def source_of(case, tokenizer, **changed):
    model = model_of(case, tokenizer)
    given = {
        "wordings": WORDINGS,
        "others": [(model_of("softmax-modern", tokenizer), tokenizer)],
        "name_likelihood": NameLikelihood.of_names(NAMES),
        "num_beams": 3,
        "max_new_tokens": 5,
    }
    return SignalSource(model, tokenizer, **given | changed)


@torch.no_grad()
def by_hand(model, tokenizer, prompt, answer):
    """Log p of each token of the answer and its ␃, and the logits after the prompt, without padding."""
    prompt_ids = tokenizer(prompt)["input_ids"]
    answer_ids = [*tokenizer(answer)["input_ids"], tokenizer.eos_token_id]
    logits = model(input_ids=torch.tensor([prompt_ids + answer_ids])).logits[0, len(prompt_ids) - 1 : -1]
    return logits.log_softmax(-1)[range(len(answer_ids)), answer_ids], logits[0]


@pytest.mark.parametrize("case", CASES)
def test_scores_are_those_of_one_pair_at_a_time(case, tokenizer):
    model = model_of(case, tokenizer)
    prompts = ["Bo⁇", "Where was Ada Lovelace born?⁇", "Was he?⁇"]
    answers = ["", "London", "in Wa"]
    scores = score_answers(model, tokenizer, prompts, answers, unknown_token_id=unknown_answer_id(tokenizer))
    for prompt, answer, score in zip(prompts, answers, scores, strict=True):
        tokens, first = by_hand(model, tokenizer, prompt, answer)
        assert score.log_probability == pytest.approx(tokens.sum().item(), abs=1e-3)
        assert score.weakest_token == pytest.approx(tokens.min().item(), abs=1e-4)
        expected = first[tokenizer(answer)["input_ids"][0] if answer else tokenizer.eos_token_id]
        assert score.first_rank == sum(logit >= expected for logit in first) - 1
        unknown = first.log_softmax(-1)[unknown_answer_id(tokenizer)].item()
        assert score.unknown_log_probability == pytest.approx(unknown, abs=1e-4)


@pytest.mark.parametrize("case", ["softmax", "softmax-ngrams", "performer", "gated_deltanet-canon", "linformer-rotary"])
def test_a_batch_has_the_signals_of_one_question_at_a_time(case, tokenizer):
    source = source_of(case, tokenizer)
    together = collect_signals(source, QUESTIONS)
    for question, found in zip(QUESTIONS, together, strict=True):
        (alone,) = collect_signals(source, [question])
        assert (found.answer.text, found.name) == (alone.answer.text, alone.name)
        assert found.values.keys() == SIGNALS.keys()
        for name, value in found.values.items():
            assert value == pytest.approx(alone.values[name], abs=1e-3, nan_ok=True), name


def test_signals_are_those_of_their_definitions(tokenizer):
    source = source_of("softmax-ngrams", tokenizer)
    signals = collect_signals(source, QUESTIONS)
    for question, found in zip(QUESTIONS, signals, strict=True):
        text = found.answer.text
        name = WORDINGS.name_in(question)
        assert found.name == name

        def log_p(prompt, model=source.model, text=text):
            return by_hand(model, tokenizer, question_prompt(tokenizer, prompt), text)[0].sum().item()

        values = found.values
        assert values["log_probability"] == pytest.approx(log_p(question), abs=1e-3)
        assert values["checkpoint_agreement"] == pytest.approx(
            max(
                -30, log_mean([log_p(prompt, source.others[0][0]) for prompt in [question, *WORDINGS.others(question)]])
            ),
            abs=1e-3,
        )
        if name is None:
            absent = ("wording_agreement", "name_log_probability", "name_rank", "name_likelihood", "name_ngram_norm")
            assert all(math.isnan(values[signal]) for signal in absent)
            continue
        assert values["wording_agreement"] == pytest.approx(max(-30, log_p(f"{name} born in")), abs=1e-3)
        assert values["name_log_probability"] == pytest.approx(max(-30, log_p(name)), abs=1e-3)
        assert values["name_likelihood"] == source.name_likelihood(name)


def signals_in_process():
    return collect_signals(source_of("softmax", make_tokenizer()), QUESTIONS[:3], accelerator=Accelerator(cpu=True))


@pytest.mark.slow
def test_two_processes_share_the_questions_and_both_have_all_signals(tokenizer):
    expected = collect_signals(source_of("softmax", tokenizer), QUESTIONS[:3])
    for found in in_two_processes(signals_in_process):
        assert [signals.answer.text for signals in found] == [signals.answer.text for signals in expected]
        for one, other in zip(found, expected, strict=True):
            assert one.values == pytest.approx(other.values, abs=1e-3, nan_ok=True)


def test_a_name_that_is_given_has_signals_in_any_wording(tokenizer):
    source = source_of("softmax", tokenizer)
    question = "Tell me about Bo?"
    ((unnamed,), (named,)) = (collect_signals(source, [question], names=names) for names in (None, ["Bo"]))
    assert (unnamed.name, named.name, unnamed.in_scope, named.in_scope) == (None, "Bo", False, False)
    assert math.isnan(unnamed.values["name_rank"]) and not math.isnan(named.values["name_rank"])
    assert named.values["log_probability"] == pytest.approx(unnamed.values["log_probability"], abs=1e-4)


def test_answers_are_the_greedy_ones_whether_given_or_not(tokenizer):
    source = source_of("softmax", tokenizer)
    greedy = answer_questions(source.model, tokenizer, QUESTIONS, max_new_tokens=5)
    assert [found.answer for found in collect_signals(source, QUESTIONS)] == greedy
    assert collect_signals(source, QUESTIONS[:1], answers=greedy[:1])[0].answer == greedy[0]


def test_the_answers_of_all_beams_are_in_order_and_the_first_is_that_of_a_beam_search(tokenizer):
    model = model_of("softmax", tokenizer)
    found = candidate_answers(model, tokenizer, QUESTIONS, num_beams=4, max_new_tokens=5)
    first = answer_questions(model, tokenizer, QUESTIONS, num_beams=4, max_new_tokens=5)
    for answers, best in zip(found, first, strict=True):
        assert len(answers) == 4 and answers[0].text == best.text
        scores = [answer.log_probability for answer in answers]
        assert scores == sorted(scores, reverse=True) and len(set(scores)) == 4


def test_margin_and_entropy_add_the_probabilities_of_equal_texts():
    beams = [Answer("Rome", math.log(0.4)), Answer("Oslo", math.log(0.2)), Answer("Rome", math.log(0.1))]
    found = beam_signals(beams)
    assert found["margin"] == pytest.approx(math.log(0.5 / 0.2))
    # the rest, 0.3, is one more answer
    assert found["entropy"] == pytest.approx(-sum(p * math.log(p) for p in (0.5, 0.2, 0.3)))
    assert beam_signals([Answer("Rome", 0.0)]) == {"margin": 30.0, "entropy": 0.0}


def test_the_mean_of_probabilities_is_not_the_mean_of_logarithms():
    assert log_mean([math.log(0.5), math.log(0.1)]) == pytest.approx(math.log(0.3))
    assert math.isnan(log_mean([])) and log_mean([-1e5]) == -30


def test_the_norm_is_the_smallest_of_all_ngrams_of_the_name(tokenizer):
    model = model_of("softmax-ngrams", tokenizer)
    ids = tokenizer("Ada")["input_ids"]
    tables = dict(zip((2, 3), model.model.embed_ngrams.tables, strict=True))
    norms = [
        tables[order].weight[hash_ngrams(torch.tensor(ids[start : start + order]), 50)].norm().item()
        for order in (2, 3)
        for start in range(len(ids) - order + 1)
    ]
    assert name_ngram_norm(model, tokenizer, "Ada") == pytest.approx(min(norms))
    assert math.isnan(name_ngram_norm(model, tokenizer, "A"))
    assert math.isnan(name_ngram_norm(model_of("softmax", tokenizer), tokenizer, "Ada"))


def test_an_unknown_answer_is_weighed_as_its_token(tokenizer):
    source = source_of("softmax", tokenizer)
    (found,) = collect_signals(source, QUESTIONS[:1], answers=[Answer("", -0.1, is_unknown=True)])
    expected = by_hand(source.model, tokenizer, f"{QUESTIONS[0]}⁇", "␀")[0]
    assert found.values["log_probability"] == pytest.approx(expected.sum().item(), abs=1e-3)
    assert found.values["unknown_log_probability"] == pytest.approx(expected[0].item(), abs=1e-4)
    beams = [Answer("", math.log(0.5), is_unknown=True), Answer("", math.log(0.25))]
    assert beam_signals(beams)["margin"] == pytest.approx(math.log(2))


def test_names_of_the_corpus_are_likelier_than_others_of_the_same_letters():
    likelihood = NameLikelihood.of_names([*NAMES, "Ada Lovelace."])
    assert likelihood("Ada Lovelace") > likelihood("Lise Lovelace") > likelihood("Xq Zzyzx")
    assert likelihood("Ada  Lovelace.") == likelihood("Ada Lovelace")


def test_the_likelihood_of_names_is_a_distribution():
    likelihood = NameLikelihood.of_names(["ab", "ba", "b"])
    # p of each next character, of one that no name has, and of the end, after `a`
    following = ["ab", "aa", "a\x03", "aX"]
    padded = ["\x02" * likelihood.order + text for text in following]
    assert sum(likelihood._probability(text, len(text) - 1) for text in padded) == pytest.approx(1)
    restored = NameLikelihood(likelihood.counts, likelihood.order)
    assert restored("ab") == likelihood("ab")
