"""An answer that runs on to the longest length is reported, with the form of questions that the model has learned."""

import logging
import shutil

import pytest
import torch
from builders import read_lines
from transformers import AutoModelForCausalLM, AutoTokenizer

from birthgpt.cli import main
from birthgpt.commands.endless_answers import warn_endless_answers
from birthgpt.evaluation.answering import Answer, answer_questions


@pytest.fixture
def shown(caplog):
    caplog.set_level(logging.WARNING)
    return caplog


def example(people_files) -> str:
    return read_lines(people_files / "birth_places_train.tsv")[0].split("\t")[0]


def test_a_warning_names_the_words_that_were_learned_in_another_case(finetuned, people_files, shown):
    learned = example(people_files)
    asked = learned[0].lower() + learned[1:]
    answers = [Answer("Lon", -9.0, has_end=False), Answer("London", -1.0)]
    warn_endless_answers([asked, learned], answers, str(finetuned))
    assert f"1 of 2 answers do not end: the model does not recognise the question, as in {asked!r}" in shown.text
    assert f"it has learned questions such as {learned!r} ('Where', not 'where')" in shown.text


def test_answers_that_end_give_no_warning(finetuned, shown):
    warn_endless_answers(["Where?"], [Answer("London", -1.0)], str(finetuned))
    assert not shown.text


@pytest.mark.parametrize("known", ["no run.json", "damaged"])
def test_the_warning_does_not_depend_on_how_the_model_was_trained(finetuned, tmp_path, shown, known):
    shutil.copytree(finetuned, tmp_path / "moved")
    (tmp_path / "moved" / "run.json").unlink()
    if known == "damaged":
        (tmp_path / "moved" / "run.json").write_text("{")
    warn_endless_answers(["where?"], [Answer("Lon", -9.0, has_end=False)], str(tmp_path / "moved"))
    assert shown.text.strip().endswith("as in 'where?'")


def test_an_answer_has_an_end_if_the_model_writes_its_eos_token(finetuned, people_files):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(finetuned), AutoTokenizer.from_pretrained(finetuned)
    question = [example(people_files)]
    prompt = torch.tensor([tokenizer(question[0] + tokenizer.mask_token)["input_ids"]])
    for token, has_end in ((tokenizer.eos_token_id, True), (tokenizer.encode("a")[0], False)):
        model.lm_head = FixedHead(token, len(tokenizer))
        assert model(prompt).logits[0, -1].argmax() == token
        (answer,) = answer_questions(model, tokenizer, question, max_new_tokens=3)
        assert answer.has_end == has_end


class FixedHead(torch.nn.Module):
    """Always predicts the same token."""

    def __init__(self, token: int, vocab_size: int):
        super().__init__()
        self.logits = torch.nn.functional.one_hot(torch.tensor(token), vocab_size).float()

    def forward(self, states):
        return self.logits.expand(*states.shape[:-1], -1)


def test_asking_shows_the_warning(finetuned, shown, monkeypatch):
    cut = [Answer("Lon", -9.0, has_end=False)]
    monkeypatch.setattr("birthgpt.commands.ask.answer_questions", lambda *given, **settings: cut)
    main(["ask", str(finetuned), "where was Ada born?"])
    assert "1 of 1 answers do not end" in shown.text
