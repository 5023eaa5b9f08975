"""The ranks of answers are compared with the logits of each prompt alone."""

import pytest
import torch
from builders import LINES, NAMES, tiny_model

from birthgpt.data.corpus import lines_by_name
from birthgpt.evaluation.recall import answer_ranks, answerable, prompts_by_kind, recall_at

QUESTIONS = [
    {"name": "Ada Lovelace", "question": "Where was Ada Lovelace born?", "answer": "London"},
    {"name": "J. J. Thomson", "question": "Where was J. J. Thomson born?", "answer": "Manchester"},
    # the answer is not in the line, and the name has no line
    {"name": "J. J. Thomson", "question": "Where was J. J. Thomson born?", "answer": "Cheetham"},
    {"name": "Nobody", "question": "Where was Nobody born?", "answer": "London"},
    # a question without a name does not belong to a line without a name
    {"name": "", "question": "Which line is nobody's?", "answer": "nobody"},
    # an answer in the name is not counted
    {"name": "Lise Meitner", "question": "Who was Lise Meitner?", "answer": "Lise"},
]


def lines():
    named = zip([*NAMES, ""], [*LINES, "a line of nobody"], strict=True)
    return lines_by_name({"name": name, "text": line} for name, line in named)


def test_only_questions_whose_answer_is_in_the_line_are_found():
    found = answerable(QUESTIONS, lines())
    assert [(row["answer"], before) for row, before in found] == [
        ("London", " Ada Lovelace (born 10 December 1815, "),
        ("Manchester", " Thomson was born in "),
        ("Lise", " "),
    ]


def test_a_name_does_not_cut_into_a_longer_word():
    question = {"name": "Li", "question": "Where is Li from?", "answer": "Lima"}
    assert answerable([question], {"Li": ["Lima is the home of Li"]}) == [(question, "")]


def test_prompts_contain_the_words_before_the_answer():
    prompts = prompts_by_kind(["A"], ["Where was A born?"], [" A was born in "])
    assert list(prompts.values()) == [["A⁇"], ["A⁇in"], ["A⁇born in"], ["Where was A born?⁇"]]


def test_an_answer_after_words_begins_with_the_space_between_them(characters, bpe):
    model = tiny_model(vocab_size=len(characters))
    ranks = [answer_ranks(model, characters, ["Ada⁇born in"], [answer]) for answer in ("London", "Manchester")]
    assert ranks[0] == ranks[1] == answer_ranks(model, characters, ["Ada⁇born in"], [" "])
    # tokens of BPE contain the space before them
    assert bpe("London", add_special_tokens=False) == bpe(" London", add_special_tokens=False)


def test_the_first_right_answer_that_a_line_contains_is_found():
    question = {
        "name": "Lise Meitner",
        "question": "Where?",
        "answer": "Rome",
        "answers": ["Rome", "Stockholm", "Berlin"],
    }
    ((row, before),) = answerable([question], lines())
    assert row is question and before.endswith("in Berlin and ")


def test_of_several_right_answers_the_likeliest_has_the_rank(bpe):
    model = tiny_model(vocab_size=len(bpe))
    prompts, answers = ["Ada⁇", "Lise Meitner⁇ from"], [["London", "Paris", "Vienna"], ["Manchester", "Berlin"]]
    alone = [
        [answer_ranks(model, bpe, [prompt], [answer])[0] for answer in right]
        for prompt, right in zip(prompts, answers, strict=True)
    ]
    assert answer_ranks(model, bpe, prompts, answers) == [min(ranks) for ranks in alone]
    assert len({rank for ranks in alone for rank in ranks}) > 2


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_a_rank_counts_the_tokens_that_are_more_likely(bpe, batch_size):
    model = tiny_model(vocab_size=len(bpe)).train()
    prompts = ["Ada⁇", "Where was J. J. Thomson born?⁇", "Lise Meitner⁇ from"]
    answers = ["London", "Manchester", "Vienna"]
    expected = []
    for prompt, answer in zip(prompts, answers, strict=True):
        tokens = torch.tensor([bpe(prompt, add_special_tokens=False)["input_ids"]])
        logits = model.eval()(tokens).logits[0, -1]
        first = bpe(answer, add_special_tokens=False)["input_ids"][0]
        expected.append(logits.argsort(descending=True).tolist().index(first))
    model.train()
    assert answer_ranks(model, bpe, prompts, answers, batch_size=batch_size) == expected
    assert model.training


def test_recall_is_the_fraction_of_ranks_below_the_limit():
    assert recall_at([0, 1, 2, 9, 10, 40]) == {
        "recall@1": 1 / 6,
        "recall@3": 0.5,
        "recall@10": 4 / 6,
        "recall@30": 5 / 6,
    }


def test_an_answer_without_a_token_is_named(bpe):
    with pytest.raises(ValueError, match="'' has no token"):
        answer_ranks(tiny_model(vocab_size=len(bpe)), bpe, ["Ada⁇"], [""])


def test_a_tie_counts_against_the_model(bpe):
    model = tiny_model(vocab_size=len(bpe), tie_word_embeddings=False)
    prompt, first = "Ada⁇", bpe("London").input_ids[0]
    (rank,) = answer_ranks(model, bpe, [prompt], ["London"])
    logits = model(torch.tensor([bpe(prompt).input_ids])).logits[0, -1]
    less_likely = [token for token in range(len(bpe)) if logits[token] < logits[first]]
    with torch.no_grad():
        # they become as likely as the answer
        model.lm_head.weight[less_likely[:2]] = model.lm_head.weight[first].clone()
    assert answer_ranks(model, bpe, [prompt], ["London"]) == [rank + 2]


@pytest.mark.parametrize("spoil", [torch.nan, torch.inf, 0.0])
def test_scores_that_rank_no_token_have_no_rank(bpe, spoil):
    model = tiny_model(vocab_size=len(bpe), tie_word_embeddings=False)
    torch.nn.init.constant_(model.lm_head.weight, spoil)
    with pytest.raises(ValueError, match="scores of the model for 'Ada⁇' are not finite, or equal for all tokens"):
        answer_ranks(model, bpe, ["Ada⁇"], ["London"])
