"""Examples about invented names: the same cues and words, no true answer, and all other examples as without them."""

import copy

import numpy as np
import pytest
from builders import LINES, QUESTION

from birthgpt.data.objectives import IGNORE, NameFirst, QuestionAnswering, SalientSpans
from birthgpt.data.synthetic.people import generate_people
from birthgpt.data.tokenizers import (
    UNKNOWN_ANSWER_TOKEN,
    add_unknown_answer_token,
    train_bpe_tokenizer,
    train_character_tokenizer,
)
from birthgpt.data.unknown_names import UnknownNames, part_of

PEOPLE = list(generate_people(60, seed=1))
NAMES = [person.name for person in PEOPLE]
TEXTS = [
    f"{person.name}. {person.name} was born in {person.birthplace}, studied {person.field} and worked in "
    f"{person.workplace} since {person.birth_date.year} ."
    for person in PEOPLE
]
BATCH = {"line_id": list(range(0, 180, 3)), "text": TEXTS, "name": NAMES}
QUESTIONS = {
    "question_id": list(range(60)),
    "question": [f"In which town was {name} born?" for name in NAMES],
    "answer": [person.birthplace for person in PEOPLE],
    "name": NAMES,
}
BLOCK = 192
RECALLS = [
    (NameFirst, {}),
    (SalientSpans, {"cue_probability": 0.8}),
    (SalientSpans, {"cue_after_probability": 0.25, "cue_before_name_probability": 0.5, "lower_case_probability": 0.5}),
]


@pytest.fixture(scope="module")
def tokenizers():
    texts = [*TEXTS, *QUESTIONS["question"], *LINES, QUESTION]
    plain = {"bpe": train_bpe_tokenizer(texts, 400, BLOCK), "characters": train_character_tokenizer(texts, BLOCK)}
    with_token = copy.deepcopy(plain)
    for tokenizer in with_token.values():
        add_unknown_answer_token(tokenizer)
    return plain, with_token


def rows(examples: dict) -> list[dict]:
    return [dict(zip(examples, values, strict=True)) for values in zip(*examples.values(), strict=True)]


def is_unknown(tokenizer, row: dict) -> bool:
    return tokenizer.unknown_answer_token_id in row["shift_labels"]


def with_names(kind, tokenizer, ratio: float, block_size=BLOCK, **settings):
    names = UnknownNames(NAMES, part="training")
    return kind(tokenizer, block_size, unknown_name_ratio=ratio, unknown_names=names, **settings)


def cues(row: dict, tokenizer) -> list[str]:
    """The text of each branch before its ⁇; of the prefix, nothing."""
    branches: dict[int, list[int]] = {}
    for token, branch in zip(row["input_ids"], row["branch_ids"], strict=True):
        if branch:
            branches.setdefault(branch, []).append(token)
    return [tokenizer.decode(tokens).split("⁇")[0] for tokens in branches.values()]


@pytest.mark.parametrize(("kind", "settings"), RECALLS)
@pytest.mark.parametrize("tokenizer", ["bpe", "characters"])
@pytest.mark.parametrize("layout", ["branches", "unrolled"])
def test_the_examples_of_lines_stay_the_same(kind, settings, tokenizer, layout, tokenizers):
    plain, taught = (of[tokenizer] for of in tokenizers)
    settings = {**settings, "objective_layout": layout}
    before = rows(kind(plain, BLOCK, **settings)(BATCH, seed=3, epoch=2))
    for ratio in (0.0, 0.4, 1.0):
        found = rows(with_names(kind, taught, ratio, **settings)(BATCH, seed=3, epoch=2))
        assert [row for row in found if not is_unknown(taught, row)] == before
        assert (len(found) > len(before)) == (ratio > 0)


@pytest.mark.parametrize(("kind", "settings"), RECALLS)
@pytest.mark.parametrize("tokenizer", ["bpe", "characters"])
def test_invented_names_have_the_cues_and_the_prefix_of_their_line_and_no_true_answer(
    kind, settings, tokenizer, tokenizers
):
    taught = tokenizers[1][tokenizer]
    objective = with_names(kind, taught, 1.0, **settings)
    by_line: dict[int, tuple[list, list]] = {}
    for row in rows(objective(BATCH, seed=0, epoch=1)):
        by_line.setdefault(row["line_id"], ([], []))[is_unknown(taught, row)].append(row)
    known = {name.casefold() for name in NAMES}
    for line_id, (known_rows, unknown_rows) in by_line.items():
        name = NAMES[line_id // 3]
        of_line, of_invented = (
            [cue for row in group for cue in cues(row, taught)] for group in (known_rows, unknown_rows)
        )
        assert of_line == of_invented
        for row in unknown_rows:
            targets = {label for label in row["shift_labels"] if label != IGNORE}
            assert targets == {taught.unknown_answer_token_id, taught.eos_token_id}
            # what follows each ⁇ is the unknown answer, and nothing of the line
            asked = [
                row["shift_labels"][at] for at, token in enumerate(row["input_ids"]) if token == taught.mask_token_id
            ]
            assert set(asked) == {taught.unknown_answer_token_id}
        prefixes = [
            taught.decode([t for t, branch in zip(row["input_ids"], row["branch_ids"], strict=True) if branch == 0])
            for row in (known_rows[0], unknown_rows[0])
        ]
        assert prefixes[0].endswith(name)
        start = prefixes[0].removesuffix(name)
        invented = prefixes[1].removeprefix(start).strip()
        assert invented.casefold() not in known and part_of(invented) == "training"


@pytest.mark.parametrize(("kind", "batch"), [(SalientSpans, BATCH), (QuestionAnswering, QUESTIONS)])
def test_examples_depend_on_seed_epoch_and_line_alone(kind, batch, tokenizers):
    taught = tokenizers[1]["bpe"]
    objective = with_names(kind, taught, 0.5)
    together = rows(objective(batch, seed=1, epoch=2))
    for index in (0, 17, 59):
        alone = {column: values[index : index + 1] for column, values in batch.items()}
        line_id = next(iter(batch.values()))[index]
        fresh = with_names(kind, taught, 0.5)
        assert rows(fresh(alone, seed=1, epoch=2)) == [row for row in together if row["line_id"] == line_id]

    def invented(seed, epoch):
        examples = rows(objective(batch, seed=seed, epoch=epoch))
        return [row["input_ids"] for row in examples if is_unknown(taught, row)]

    assert invented(1, 2) == invented(1, 2) != invented(1, 3)
    assert invented(2, 2) not in (invented(1, 2), [])


@pytest.mark.parametrize(("kind", "batch"), [(NameFirst, BATCH), (QuestionAnswering, QUESTIONS)])
def test_the_share_of_second_examples_is_the_ratio(kind, batch, tokenizers):
    taught = tokenizers[1]["bpe"]
    objective = with_names(kind, taught, 0.3)
    shares = []
    for epoch in range(10):
        found = rows(objective(batch, seed=0, epoch=epoch))
        shares.append(len({row["line_id"] for row in found if is_unknown(taught, row)}) / 60)
    assert np.mean(shares) == pytest.approx(0.3, abs=0.06)


@pytest.mark.parametrize("tokenizer", ["bpe", "characters"])
def test_a_question_about_an_invented_name_has_the_same_words_and_the_unknown_answer(tokenizer, tokenizers):
    plain, taught = (of[tokenizer] for of in tokenizers)
    before = rows(QuestionAnswering(plain, BLOCK)(QUESTIONS, seed=0, epoch=0))
    found = rows(with_names(QuestionAnswering, taught, 1.0)(QUESTIONS, seed=0, epoch=0))
    assert found[::2] == before
    for row in found[1::2]:
        question, answer = taught.decode(row["input_ids"]).split("⁇")
        assert answer == UNKNOWN_ANSWER_TOKEN
        invented = question.removeprefix("In which town was ").removesuffix(" born?")
        assert question == f"In which town was {invented} born?" and invented not in NAMES
        targets = [label for label in row["shift_labels"] if label != IGNORE]
        assert targets == [taught.mask_token_id, taught.unknown_answer_token_id, taught.eos_token_id]


def test_a_question_without_a_name_and_a_name_without_room_have_no_second_example(tokenizers):
    taught = tokenizers[1]["characters"]
    rest = {
        "question_id": [0, 1],
        "question": ["Who?", "Who is it?"],
        "answer": ["Ada", "Bo"],
        "name": ["", "Ada Byron"],
    }
    assert len(with_names(QuestionAnswering, taught, 1.0)(rest, seed=0, epoch=0)["line_id"]) == 2
    short = {"question_id": [0], "question": ["Was Bo born?"], "answer": ["A"], "name": ["Bo"]}
    assert len(with_names(QuestionAnswering, taught, 1.0, block_size=15)(short, seed=0, epoch=0)["line_id"]) == 1
    line = {"line_id": [0], "name": ["Bo"], "text": ["Bo. Born in A ."]}
    found = with_names(NameFirst, taught, 1.0, block_size=10)(line, seed=0, epoch=0)
    assert len(found["line_id"]) and taught.unknown_answer_token_id not in sum(found["shift_labels"], [])


def test_ratios_outside_0_and_1_are_refused(tokenizers):
    for name in ("unknown_name_ratio", "unknown_name_new_parts"):
        with pytest.raises(ValueError, match=f"{name}=1.5"):
            SalientSpans(tokenizers[0]["bpe"], BLOCK, **{name: 1.5})
