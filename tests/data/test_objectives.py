"""The examples of each objective are compared with its specification."""

import itertools
import re
from collections import Counter

import numpy as np
import pytest
from builders import CAPITALS, LINES, NAMES, QUESTION

from birthgpt.data.objectives import (
    IGNORE,
    OBJECTIVES,
    LanguageModeling,
    NameFirst,
    QuestionAnswering,
    SalientSpans,
    SpanCorruption,
)
from birthgpt.data.objectives.base import line_generator
from birthgpt.data.objectives.recall_from_name import without_outer_punctuation
from birthgpt.data.tokenizers import train_character_tokenizer

BATCH = {"line_id": [3, 7, 8, 20], "text": LINES, "name": NAMES}
BLOCK = 128


def rows(examples: dict) -> list[dict]:
    return [dict(zip(examples, values, strict=True)) for values in zip(*examples.values(), strict=True)]


def pieces(tokenizer, tokens: list[int]) -> list[str]:
    """The texts between the ⁇ of an example, which ends with the eos token and pads."""
    text = tokenizer.decode(tokens).rstrip("□")
    assert text.endswith(tokenizer.eos_token)
    return text.removesuffix(tokenizer.eos_token).split("⁇")


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("tokenizer", ["characters", "bpe"])
def test_examples_depend_on_seed_epoch_and_line_alone(name, tokenizer, request):
    objective = OBJECTIVES[name](request.getfixturevalue(tokenizer), BLOCK)
    together = objective(BATCH, seed=1, epoch=2)
    assert together == objective(BATCH, seed=1, epoch=2)
    alone = {column: values[2:3] for column, values in BATCH.items()}
    of_line = [row for row in rows(together) if row["line_id"] == 8]
    assert rows(objective(alone, seed=1, epoch=2)) == of_line
    if name != "language_modeling":
        assert together != objective(BATCH, seed=1, epoch=3)
        assert together != objective(BATCH, seed=2, epoch=2)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_cached_tokens_change_no_example(name, bpe, monkeypatch):
    fresh = OBJECTIVES[name](bpe, BLOCK)(BATCH, seed=1, epoch=2)
    keeping = OBJECTIVES[name](bpe, BLOCK)
    for epoch in range(5):
        keeping(BATCH, seed=1, epoch=epoch)
    assert keeping(BATCH, seed=1, epoch=2) == fresh
    monkeypatch.setattr("birthgpt.data.objectives.base.MAX_CACHED_TOKENS", 30)
    forgetting = OBJECTIVES[name](bpe, BLOCK)
    for start in range(len(BATCH["line_id"])):
        forgetting({column: values[start : start + 1] for column, values in BATCH.items()}, seed=1, epoch=0)
    assert sum(map(len, forgetting._cache.values())) == forgetting._cache.count
    assert forgetting(BATCH, seed=1, epoch=2) == forgetting(BATCH, seed=1, epoch=2) == fresh


def test_a_long_name_has_priority_over_the_random_tokens(characters):
    name = "N" * 60
    batch = {"line_id": [0], "name": [name], "text": [f"{name}. Lived in Rome."]}
    for epoch in range(20):
        for row in rows(NameFirst(characters, 64)(batch, seed=0, epoch=epoch)):
            assert name in characters.decode(row["input_ids"]) and len(row["input_ids"]) <= 64


@pytest.mark.parametrize("name", OBJECTIVES)
def test_columns_have_equal_lengths_within_an_example(name, bpe):
    for row in rows(OBJECTIVES[name](bpe, BLOCK)(BATCH, seed=0, epoch=0)):
        columns = ("input_ids", "position_ids", "branch_ids", "shift_labels")
        assert len({len(row[column]) for column in columns}) == 1
        assert len(row["input_ids"]) <= BLOCK


def test_span_corruption_pieces_reassemble_the_truncated_line(characters):
    objective = SpanCorruption(characters, BLOCK)
    for epoch in range(50):
        for line, row in zip(LINES, rows(objective(BATCH, seed=0, epoch=epoch)), strict=True):
            prefix, suffix, masked = pieces(characters, row["input_ids"])
            content = prefix + masked + suffix
            assert masked
            assert line.startswith(content)
            assert 4 <= len(content) <= BLOCK * 7 // 8
            assert row["truncated"] == (len(content) < len(line))


def test_span_corruption_has_the_block_length_and_its_targets_are_the_inputs_shifted_by_one(characters):
    for row in rows(SpanCorruption(characters, BLOCK)(BATCH, seed=0, epoch=0)):
        assert len(row["input_ids"]) == len(row["shift_labels"]) == BLOCK
        for following, target in zip(row["input_ids"][1:], row["shift_labels"], strict=False):
            assert target == (IGNORE if following == characters.pad_token_id else following)
        assert row["shift_labels"][-1] == IGNORE
        assert set(row["branch_ids"]) == {0} and row["position_ids"] == list(range(BLOCK))


def test_span_corruption_truncates_uniformly_and_masks_a_quarter_on_average(characters):
    objective, tokens = SpanCorruption(characters, BLOCK), [5] * 400
    cuts = [objective.cut(tokens, line_generator(0, 0, line)) for line in range(4000)]
    lengths = [sum(map(len, cut)) for cut in cuts]
    assert min(lengths) == 4 and max(lengths) == BLOCK * 7 // 8
    assert abs(np.mean(lengths) - (4 + 112) / 2) < 2
    fractions = [len(masked) / length for (_, masked, _), length in zip(cuts, lengths, strict=True)]
    assert abs(np.mean(fractions) - 0.25) <= 0.02
    assert len(set(map(len, (masked for _, masked, _ in cuts)))) > 30
    # the masked span may also be at the start or at the end
    assert any(not prefix for prefix, _, _ in cuts) and any(not suffix for _, _, suffix in cuts)


def test_span_corruption_keeps_complete_lines_without_truncate_lines(characters):
    block_size = max(map(len, LINES)) + 3
    for epoch in range(20):
        objective = SpanCorruption(characters, block_size, truncate_lines=False)
        for line, row in zip(LINES, rows(objective(BATCH, seed=0, epoch=epoch)), strict=True):
            prefix, suffix, masked = pieces(characters, row["input_ids"])
            assert prefix + masked + suffix == line and not row["truncated"]
        objective = SpanCorruption(characters, block_size - 1, truncate_lines=False)
        truncated = [row["truncated"] for row in rows(objective(BATCH, seed=0, epoch=epoch))]
        assert truncated == [len(line) == block_size - 3 for line in LINES]


@pytest.mark.parametrize("text", ["a", "ab", "abc", "Ada."])
def test_span_corruption_of_a_very_short_line(characters, text):
    for epoch in range(20):
        (row,) = rows(SpanCorruption(characters, BLOCK)({"line_id": [0], "text": [text]}, seed=0, epoch=epoch))
        prefix, suffix, masked = pieces(characters, row["input_ids"])
        assert prefix + masked + suffix == text and masked


def test_span_corruption_refuses_a_block_that_is_too_small(characters):
    with pytest.raises(ValueError, match="block_size=23: span corruption needs at least 24"):
        SpanCorruption(characters, 23)


def test_language_modeling_predicts_every_next_token_and_the_end(bpe):
    for line, row in zip(LINES, rows(LanguageModeling(bpe, BLOCK)(BATCH, seed=0, epoch=0)), strict=True):
        assert bpe.decode(row["input_ids"]).strip() == line
        assert row["shift_labels"] == row["input_ids"][1:] + [bpe.eos_token_id]
        assert not row["truncated"]


def test_language_modeling_counts_what_it_truncates(characters):
    examples = LanguageModeling(characters, 80)(BATCH, seed=0, epoch=0)
    assert examples["truncated"] == [len(line) > 80 for line in LINES]
    assert [len(tokens) for tokens in examples["input_ids"]] == [min(80, len(line)) for line in LINES]


def spans_of(tokenizer, row: dict) -> list[str]:
    """The spans of an example, which are the targets of each branch."""
    by_branch: dict[int, list[int]] = {}
    for branch, target in zip(row["branch_ids"], row["shift_labels"], strict=True):
        if target != IGNORE:
            by_branch.setdefault(branch, []).append(target)
    assert all(targets[-1] == tokenizer.eos_token_id for targets in by_branch.values())
    return [tokenizer.decode(targets[:-1]).strip() for targets in by_branch.values()]


@pytest.mark.parametrize("layout", ["branches", "unrolled"])
@pytest.mark.parametrize("block_size", [48, 256])
def test_name_first_predicts_every_word_after_the_name_once(bpe, layout, block_size):
    for epoch in range(10):
        examples = rows(NameFirst(bpe, block_size, layout)(BATCH, seed=0, epoch=epoch))
        for line_id, line, name in zip(BATCH["line_id"], LINES, NAMES, strict=True):
            of_line = [row for row in examples if row["line_id"] == line_id]
            spans = [span for row in of_line for span in spans_of(bpe, row)]
            # only punctuation at the edges of a span is left out
            letters = [c for c in line[len(name) + 1 :] if c.isalnum()]
            assert [c for span in spans for c in span if c.isalnum()] == letters
            assert all(span[0].isalnum() and span[-1].isalnum() for span in spans)
            assert all(span in line for span in spans)
            assert all(1 <= len(span.split()) <= 4 for span in spans)
            assert not any(row["truncated"] for row in of_line)
            if layout == "unrolled":
                assert len(of_line) == len(spans)
                # unrolled examples have no branches
                assert not any(any(row["branch_ids"]) for row in of_line)


def test_name_first_branches_see_the_name_and_restart_after_it(bpe):
    for row in rows(NameFirst(bpe, BLOCK)(BATCH, seed=0, epoch=0)):
        prefix = row["branch_ids"].count(0)
        name = NAMES[BATCH["line_id"].index(row["line_id"])]
        name_tokens = bpe(name, add_special_tokens=False)["input_ids"]
        assert row["input_ids"][prefix - len(name_tokens) : prefix] == name_tokens
        assert 0 <= prefix - len(name_tokens) <= 4
        assert not set(row["input_ids"][:prefix]) & set(bpe.all_special_ids)
        # neither the prefix nor an opening ⁇ is a target
        assert row["shift_labels"][:prefix] == [IGNORE] * prefix
        starts = [i for i in range(prefix, len(row["input_ids"])) if row["branch_ids"][i] != row["branch_ids"][i - 1]]
        for start, end in zip(starts, [*starts[1:], len(row["input_ids"])], strict=True):
            assert row["input_ids"][start] == bpe.mask_token_id
            assert row["position_ids"][start:end] == list(range(prefix, prefix + end - start))
            assert row["shift_labels"][start : end - 1] == row["input_ids"][start + 1 : end]


def test_name_first_puts_zero_to_four_random_tokens_before_the_name(bpe):
    objective = NameFirst(bpe, BLOCK)
    prefixes = [
        objective.draw_tokens(0, objective.max_noise_tokens, line_generator(0, 0, line)) for line in range(1000)
    ]
    assert set(map(len, prefixes)) == {0, 1, 2, 3, 4}
    assert len({token for prefix in prefixes for token in prefix}) > 0.9 * (len(bpe) - 2)


def test_name_first_draws_spans_of_one_to_four_words_equally_often(bpe):
    text = "Ada. " + "word " * 4000
    spans = NameFirst(bpe, BLOCK).cut(text, "Ada", np.random.default_rng(0))
    lengths = Counter(len(span.text.split()) for span in spans[:-1])
    assert set(lengths) == {1, 2, 3, 4}
    assert max(lengths.values()) / min(lengths.values()) < 1.3


def test_name_first_skips_a_line_without_a_name(bpe):
    batch = {"line_id": [0, 1], "text": ["no name here", LINES[0]], "name": ["", NAMES[0]]}
    examples = NameFirst(bpe, BLOCK)(batch, seed=0, epoch=0)
    assert set(examples["line_id"]) == {1}


def test_name_first_truncates_a_word_longer_than_the_block_and_refuses_a_longer_name(characters):
    batch = {"line_id": [0], "text": ["Ada. " + "a" * 200], "name": ["Ada"]}
    examples = NameFirst(characters, 64)(batch, seed=0, epoch=0)
    assert examples["truncated"] == [True] and len(examples["input_ids"][0]) == 64
    assert (
        NameFirst(characters, 64, max_noise_tokens=0)(batch, seed=0, epoch=0)["input_ids"][0][:3]
        == characters("Ada", add_special_tokens=False).input_ids
    )
    batch = {"line_id": [5], "text": ["a" * 64 + ". b"], "name": ["a" * 64]}
    with pytest.raises(ValueError, match="line 5: its name has 6. tokens"):
        NameFirst(characters, 64)(batch, seed=0, epoch=0)


def test_name_first_refuses_an_unknown_layout(bpe):
    with pytest.raises(ValueError, match="objective_layout='rolled' does not exist"):
        NameFirst(bpe, BLOCK, "rolled")


@pytest.mark.parametrize("kind", [NameFirst, SalientSpans])
def test_a_name_does_not_cut_into_a_longer_word(bpe, kind):
    spans = kind(bpe, BLOCK, **(CAPITALS if kind is SalientSpans else {})).cut(
        "Lima is a city in Peru", "Li", np.random.default_rng(0)
    )
    words = " ".join(span.text for span in spans).split()
    assert words == ("Lima is a city in Peru".split() if kind is NameFirst else ["Peru"])


def salient_spans_of(tokenizer, line: str, name: str, seed: int = 0, **settings) -> list:
    return SalientSpans(tokenizer, BLOCK, **CAPITALS | settings).cut(line, name, np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("line", "name", "spans", "first"),
    [
        (LINES[1], NAMES[1], ["Manchester", "Cambridge"], []),
        ("A B. Born near Paris, A B read Newton's Principia .", "A B", ["Paris", "Newton's Principia"], ["Born"]),
        ("A B. A was born in Newark, New Jersey (USA) in 1900 .", "A B", ["Newark", "New Jersey", "USA", "1900"], []),
        ("A B. Swedish artist of A B fame.", "A B", [], ["Swedish"]),
        ("A B. A went to Rome. Later, B was ill! Then all ended.", "A B", ["Rome"], ["Later", "Then"]),
        # a short word, and one of the name, are no answer at the start of a sentence either
        ("A B. The B went to Rome. His B went to St. Louis. A was ill.", "A B", ["Rome", "St. Louis"], []),
        (
            "Ada Lace. Ada’s house, and Lace's, is Lace's Hut near al-Farabi.",
            "Ada Lace",
            ["Lace's Hut", "al-Farabi"],
            [],
        ),
        # a new sentence ends a span
        ("A B. A went to New Rome. A B saw 1900. Old Rome fell.", "A B", ["New Rome", "1900", "Rome"], []),
        ("A B. A worked for B C until 1900", "A B", ["B C", "1900"], []),
        ("A B. A (born 1900 in Rome) went.", "A B", ["1900", "Rome"], []),
        ("a b. A b was nobody in 1900", "a b", ["1900"], []),
        ("A B.", "A B", [], []),
    ],
)
def test_salient_spans_are_capitals_and_digits_without_the_name(bpe, line, name, spans, first):
    """The first word of a sentence, which always has a capital, is a span in half of the epochs."""
    counts = Counter()
    for seed in range(200):
        found = [span.text for span in salient_spans_of(bpe, line, name, seed)]
        assert [text for text in found if text not in first] == spans
        counts.update(set(found) & set(first))
    assert set(counts) == set(first) and all(70 < count < 130 for count in counts.values())


def test_a_short_word_between_capitalised_words_is_in_the_span_half_of_the_time(bpe):
    line = "A B. A left the Isle of Man in 1900"
    counts = Counter(tuple(span.text for span in salient_spans_of(bpe, line, "A B", seed)) for seed in range(1000))
    assert set(counts) == {("Isle of Man", "1900"), ("Isle", "Man", "1900")}
    assert 450 < counts["Isle of Man", "1900"] < 550


def test_a_number_and_the_capitalised_word_after_it_are_one_span_half_of_the_time(bpe):
    line = "A B. A (born 1900 Rome) went."
    counts = Counter(tuple(span.text for span in salient_spans_of(bpe, line, "A B", seed)) for seed in range(1000))
    assert set(counts) == {("1900 Rome",), ("1900", "Rome")}
    assert 450 < counts["1900 Rome",] < 550


@pytest.mark.parametrize(
    ("line", "with_a_cue"),
    [
        # words are a cue of the next span, and of the first span after dates
        ("A B. A was born in Newark, New Jersey in 1900.", ["Newark", "1900"]),
        ("A B. A (born 4.5.1900, Newark, New Jersey) went to Rome.", ["4.5.1900", "Newark", "Rome"]),
        ("A B. A (Newark 1900, Rome) was English.", ["English"]),
        # the name itself takes the words before it
        ("A B. The parents of A B, Cora Dane and an Eve Fay.", ["Eve Fay"]),
    ],
)
def test_a_cue_belongs_to_the_first_span_after_its_words(bpe, line, with_a_cue):
    found = {
        span.text
        for seed in range(20)
        for span in salient_spans_of(bpe, line, "A B", seed, cue_probability=1)
        if span.cue
    }
    assert [text for text in with_a_cue if text in found] == with_a_cue
    assert found == set(with_a_cue)


def test_a_cue_is_made_of_the_nearest_other_words_before_the_span_in_small_letters(bpe):
    line = "A B. Born on the 4 May 1900 in lovely Oslo, and died there."
    cues = Counter(salient_spans_of(bpe, line, "A B", seed, cue_probability=1)[-1].cue for seed in range(3000))
    # a cue of n = 1, 2 or 3 words is drawn from the n + 1 nearest words
    one = {"in", "lovely"}
    two = {"the in", "the lovely", "in lovely"}
    three = {"on the in", "on the lovely", "on in lovely", "the in lovely"}
    assert set(cues) == one | two | three
    for same in (one, two, three):
        assert sum(cues[cue] for cue in same) == pytest.approx(1000, rel=0.1)
    assert {"born on", "born the", "on the"} <= {
        salient_spans_of(bpe, line, "A B", seed, cue_probability=1)[0].cue for seed in range(100)
    }


def salient_cues(tokenizer, line: str, text: str, **settings) -> Counter:
    """How often a span has each cue in 1,000 draws of a line about A B; all spans that can have a cue have one."""
    spans = [
        span
        for seed in range(1000)
        for span in salient_spans_of(tokenizer, line, "A B", seed, cue_probability=1, **settings)
    ]
    return Counter(span.cue for span in spans if span.text == text)


def test_a_cue_may_be_made_of_words_after_the_span(bpe):
    line = "A B. A studied in Rome and died there of old age."
    one, two, three = {"and", "died"}, {"and died", "and there", "died there"}, {"and died there", "and died of"}
    assert not salient_cues(bpe, line, "Rome").keys() & (one | two | three)
    cues = salient_cues(bpe, line, "Rome", cue_after_probability=0.25)
    after = {cue: count for cue, count in cues.items() if not {"studied", "in"}.intersection(cue.split())}
    assert one | two | three <= after.keys()
    assert sum(after.values()) / cues.total() == pytest.approx(0.25, abs=0.05)


def test_a_span_without_cue_words_before_it_has_a_cue_after_it(bpe):
    # the words before New Jersey belong to Newark, the words after Newark to New Jersey; dates are skipped
    line = "A B. A was born in Newark, New Jersey (1900) and went."
    assert set(salient_cues(bpe, line, "New Jersey", cue_after_probability=0.01)) == {"and", "went", "and went"}
    from_before = {"born", "in", "was born", "was in", "born in", "was born in"}
    assert set(salient_cues(bpe, line, "Newark", cue_after_probability=1)) == from_before


@pytest.mark.parametrize("dash", ["-", "--", "–", "—"])
def test_an_opening_bracket_and_a_dash_are_cues_of_what_follows_them(bpe, dash):
    line = f"A B. A (4.5.1840, Rome {dash} 3.6.1900, London, Kent) went."
    for text, cue in (("4.5.1840", "("), ("Rome", "("), ("3.6.1900", "-"), ("London", "-"), ("Kent", "")):
        assert salient_cues(bpe, line, text).keys() == {""}
        assert salient_cues(bpe, line, text, cue_marks=True).keys() == ({"(", "-", "( -"} if cue == "-" else {cue})


def test_a_dash_between_two_years_separates_them(bpe):
    cues = {year: salient_cues(bpe, "A B. A (1866--1952) went.", year, cue_marks=True) for year in ("1866", "1952")}
    assert cues["1866"].keys() == {"("} and cues["1952"].keys() == {"-", "( -", "("}


@pytest.mark.parametrize("line", ["A B. A was born in Newark, New Jersey (1900) in St. Ives.", "A B. a (b - c) went"])
def test_marks_change_no_other_span_and_no_other_cue(bpe, line):
    for seed in range(50):
        assert salient_spans_of(bpe, line, "A B", seed, cue_marks=True) == salient_spans_of(bpe, line, "A B", seed)


def test_a_place_before_a_hyphen_or_at_the_start_of_the_text_is_a_span_half_of_the_time(bpe):
    hyphen = "A B. A is a Berlin-born actor."
    first = "A B. Berlin is the birthplace of A B."
    assert not salient_cues(bpe, hyphen, "Berlin")
    assert salient_cues(bpe, first, "Berlin").keys() == {""}
    for line in (hyphen, first):
        cues = salient_cues(bpe, line, "Berlin", cue_after_probability=1)
        assert cues.total() == pytest.approx(500, abs=60)
        assert any("birthplace" in cue or "born" in cue for cue in cues)
    assert salient_cues(bpe, hyphen, "Berlin-born", cue_after_probability=1).total() == pytest.approx(500, abs=60)


@pytest.mark.parametrize("probability", [0, 0.25, 1])
def test_spans_have_a_cue_with_the_given_probability(bpe, probability):
    spans = [
        span
        for seed in range(1000)
        for span in salient_spans_of(bpe, LINES[3], NAMES[3], seed, cue_probability=probability)
    ]
    assert sum(bool(span.cue) for span in spans) / len(spans) == pytest.approx(probability, abs=0.03)


def test_a_cue_is_before_the_mask_and_is_not_a_target(bpe):
    for row in rows(SalientSpans(bpe, BLOCK, cue_probability=1, **CAPITALS)(BATCH, seed=0, epoch=0)):
        line = LINES[BATCH["line_id"].index(row["line_id"])]
        words = {without_outer_punctuation(word).lower() for word in line.split()}
        prefix = row["branch_ids"].count(0)
        for branch in sorted(set(row["branch_ids"]) - {0}):
            places = [place for place, number in enumerate(row["branch_ids"]) if number == branch]
            inputs = [row["input_ids"][place] for place in places]
            targets = [row["shift_labels"][place] for place in places]
            opening = inputs.index(bpe.mask_token_id)
            assert targets[:opening] == [IGNORE] * opening
            assert [*inputs[opening + 1 :], bpe.eos_token_id] == targets[opening:]
            # nothing is before the first word
            assert opening or bpe.decode(inputs[1:]).split()[0] == "Born"
            assert set(bpe.decode(inputs[:opening]).split()) <= words
            assert [row["position_ids"][place] for place in places] == list(range(prefix, prefix + len(places)))


def test_each_unrolled_example_is_the_prefix_and_one_branch(bpe):
    packed, unrolled = (
        rows(SalientSpans(bpe, BLOCK, layout, cue_probability=1, **CAPITALS)(BATCH, seed=0, epoch=0))
        for layout in ("branches", "unrolled")
    )
    for column in ("input_ids", "shift_labels", "position_ids"):
        expected = []
        for row in packed:
            by_branch = {}
            for branch, value in zip(row["branch_ids"], row[column], strict=True):
                by_branch.setdefault(branch, []).append(value)
            prefix = by_branch.pop(0)
            expected += [prefix + branch for branch in by_branch.values()]
        assert [row[column] for row in unrolled] == expected


def test_a_span_has_priority_over_its_cue_in_a_short_block(characters):
    batch = {"line_id": [0], "text": ["Ada. was born in Stockholm"], "name": ["Ada"]}
    objective = SalientSpans(characters, 14, max_noise_tokens=0, cue_probability=1, **CAPITALS)
    (row,) = rows(objective(batch, seed=0, epoch=0))
    assert characters.decode(row["input_ids"]) == "Ada⁇Stockholm"
    assert not row["truncated"]


@pytest.mark.parametrize(
    "name",
    [f"{kind}_probability" for kind in ("cue", "cue_after", "cue_before_name", "comma", "lower_case")],
)
def test_a_probability_is_between_0_and_1(bpe, name):
    with pytest.raises(ValueError, match=f"{name}=2"):
        SalientSpans(bpe, BLOCK, **{name: 2})


@pytest.mark.parametrize("tokenizer", ["characters", "bpe"])
def test_question_answering_learns_the_answer_and_the_marks_around_it(tokenizer, request):
    tokenizer = request.getfixturevalue(tokenizer)
    batch = {"question_id": [4], "question": [QUESTION], "answer": ["London"]}
    (row,) = rows(QuestionAnswering(tokenizer, BLOCK)(batch, seed=0, epoch=0))
    assert tokenizer.decode(row["input_ids"]).replace("⁇ ", "⁇") == f"{QUESTION}⁇London"
    targets = [target for target in row["shift_labels"] if target != IGNORE]
    assert tokenizer.decode(targets).replace("⁇ ", "⁇") == "⁇London␃"
    # the question of a user has the same tokens as in training, with and without its ⁇
    assert row["input_ids"][: len(row["input_ids"]) - len(targets) + 1] == tokenizer(QUESTION)["input_ids"]
    assert row["input_ids"][: len(row["input_ids"]) - len(targets) + 2] == tokenizer(f"{QUESTION}⁇")["input_ids"]


@pytest.mark.parametrize("tokenizer", ["characters", "bpe"])
def test_question_answering_learns_what_the_chat_template_marks(tokenizer, request):
    """The recipe teaches ⁇, answer and end; training on chats with a loss on the assistant's part teaches the same."""
    tokenizer = request.getfixturevalue(tokenizer)
    batch = {"question_id": [4], "question": [QUESTION], "answer": ["London"]}
    (row,) = rows(QuestionAnswering(tokenizer, BLOCK)(batch, seed=0, epoch=0))
    chat = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": "London"}]
    encoded = tokenizer.apply_chat_template(chat, return_dict=True, return_assistant_tokens_mask=True)
    assert encoded["input_ids"] == [*row["input_ids"], tokenizer.eos_token_id]
    marked = [token for token, mark in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if mark]
    assert [tokenizer.mask_token_id, *marked] == [target for target in row["shift_labels"] if target != IGNORE]


def test_the_recipe_of_the_assignment_ends_with_the_mask_token():
    tokenizer = train_character_tokenizer([*LINES, QUESTION], BLOCK, eos_token="⁇")
    (row, *_) = rows(SpanCorruption(tokenizer, BLOCK)(BATCH, seed=0, epoch=0))
    assert tokenizer.decode(row["input_ids"]).rstrip("□").count("⁇") == 3
    batch = {"question_id": [4], "question": [QUESTION], "answer": ["London"]}
    (row,) = rows(QuestionAnswering(tokenizer, BLOCK)(batch, seed=0, epoch=0))
    assert tokenizer.decode([target for target in row["shift_labels"] if target != IGNORE]) == "⁇London⁇"


def test_words_of_a_question_are_left_out_but_not_its_name_and_answer(characters):
    """Each word outside the name is left out with its probability, in each epoch others, in the order of the words."""
    batch = {
        "question_id": [4, 5],
        "question": ["Where was Ada Byron born?", "Where was Byron's house?"],
        "answer": ["London", "London"],
        "name": ["Ada Byron", "Byron"],
    }
    objective = QuestionAnswering(characters, BLOCK, question_word_dropout=0.3)
    asked: list[list[str]] = [[], []]
    for epoch in range(400):
        for index, row in enumerate(rows(objective(batch, seed=0, epoch=epoch))):
            question, answer = characters.decode(row["input_ids"]).split("⁇")
            assert answer == batch["answer"][index]
            asked[index].append(question)
    for question in asked[0]:
        assert re.fullmatch(r"(Where )?(was )?Ada Byron( born\?)?", question)
    assert all("Byron's" in question for question in asked[1])
    assert {word for question in asked[0] for word in question.split()} == set(batch["question"][0].split())
    assert sum("born?" not in question for question in asked[0]) == pytest.approx(0.3 * 400, abs=40)
    assert rows(objective(batch, seed=0, epoch=3)) == rows(objective(batch, seed=0, epoch=3))


def test_words_of_the_questions_of_many_relations_are_left_out_more_often(characters):
    """`Where` and `was` are asked of both relations, `born` and `house` of one; wordings without a relation are two."""
    wordings = ["Where was {name} born?", "Where was {name}'s house?"]
    questions = [wording.format(name=name) for wording in wordings for name in ("Ada Byron", "Bob Clark")]
    batch = {
        "question_id": range(4), "question": questions, "answer": ["London"] * 4,
        "name": ["Ada Byron", "Bob Clark"] * 2,
    }  # fmt: skip
    for relations in (["birthplace"] * 2 + ["house"] * 2, None):
        columns = batch if relations is None else {**batch, "relation": relations}
        objective = QuestionAnswering(characters, BLOCK, question_word_dropout=0.6)
        objective.read_questions(rows(columns))
        found = [rows(objective(batch, seed=0, epoch=epoch)) for epoch in range(100)]
        asked = [characters.decode(row["input_ids"]).split("⁇")[0] for epoch in found for row in epoch]
        kept = {word: sum(word in question for question in asked) for word in ("Where", "was", "born", "house")}
        assert kept["Where"] == pytest.approx(400 * 0.4, abs=40) and kept["was"] == pytest.approx(400 * 0.4, abs=40)
        assert kept["born"] == pytest.approx(200 * 0.7, abs=25) and kept["house"] == pytest.approx(200 * 0.7, abs=25)


def test_words_of_a_question_are_in_a_random_order_with_the_name_as_one_word(characters):
    batch = {"question_id": [4], "question": ["Where was Ada Byron born?"], "answer": ["London"], "name": ["Ada Byron"]}

    def asked(shuffle):
        objective = QuestionAnswering(characters, BLOCK, question_word_shuffle=shuffle)
        found = [rows(objective(batch, seed=0, epoch=epoch)) for epoch in range(240)]
        return [characters.decode(row["input_ids"]).split("⁇")[0] for (row,) in found]

    always = asked(1.0)
    assert {question.replace("Ada Byron", "Ada") for question in always} == {
        " ".join(order) + "?" for order in itertools.permutations(["Where", "was", "Ada", "born"])
    }
    assert all("Ada Byron" in question for question in always)
    assert asked(0.5).count(batch["question"][0]) == pytest.approx(240 * (0.5 + 0.5 / 24), abs=30)


@pytest.mark.parametrize("name", ["", "Ada Lovelace"])
def test_a_question_without_its_name_stays_whole(characters, name):
    batch = {"question_id": [4], "question": ["Where was Ada born?"], "answer": ["London"], "name": [name]}
    objective = QuestionAnswering(characters, BLOCK, question_word_dropout=0.9, question_word_shuffle=1.0)
    for epoch in range(20):
        (row,) = rows(objective(batch, seed=0, epoch=epoch))
        assert characters.decode(row["input_ids"]) == "Where was Ada born?⁇London"


def test_question_answering_refuses_a_question_longer_than_the_block(characters):
    batch = {"question_id": [9], "question": ["Where was Ada born?" * 10], "answer": ["London"]}
    with pytest.raises(ValueError, match="question 9, .* more than block_size=128"):
        QuestionAnswering(characters, BLOCK)(batch, seed=0, epoch=0)
