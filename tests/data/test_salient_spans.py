"""Salient spans of unusual lines: without capitals, with many words, and the cue words by their specification."""

import tracemalloc
from collections import Counter
from itertools import accumulate

import numpy as np
import pytest
from builders import CAPITALS, LINES, NAMES
from hypothesis import given, settings
from hypothesis import strategies as st

from birthgpt.data.names import split_name, text_after_name
from birthgpt.data.objectives import SalientSpans
from birthgpt.data.objectives.lower_case_words import count_collocations, predictability
from birthgpt.data.objectives.question_answering import find_shared_words
from birthgpt.data.objectives.recall_from_name import without_outer_punctuation
from birthgpt.data.objectives.salient_spans import words_after, words_before
from birthgpt.data.objectives.salient_words import number_sentences, split_marks
from birthgpt.settings import settings_of

BLOCK = 128
GENERIC = {entry.name: entry.default for entry in settings_of(SalientSpans) if entry.name in CAPITALS}
"""The defaults: answers of any form, with cues on both sides of the name."""


def salient_spans_of(tokenizer, line: str, name: str, seed: int = 0, **settings) -> list:
    return SalientSpans(tokenizer, BLOCK, **CAPITALS | settings).cut(line, name, np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(1866--1952)", "( 1866 - 1952)"),
        ("(4 May 1840 – 1900)", "( 4 May 1840 - 1900)"),
        ("born — Rome", "born - Rome"),
        ("from Frankfurt (Oder), not Berlin-born", "from Frankfurt (Oder), not Berlin-born"),
        ("((", "( ("),
        ("(-", "( -"),
    ],
)
def test_marks_become_words(text, expected):
    assert split_marks(text.split()) == expected.split()


@pytest.mark.parametrize(
    "line",
    [
        "ada byron. she was a painter in the old town of london .",
        "Ada Byron. Painter and poet of the old town of london .",
        "عائشة علي. ولدت في مدينة القاهرة القديمة في بيت صغير .",
    ],
)
def test_a_line_without_capitals_is_cut_at_random(bpe, line):
    name, text = split_name(line)
    expected = text_after_name(text, name).replace(".", "").split()
    lengths = set()
    for seed in range(50):
        spans = salient_spans_of(bpe, text, name, seed)
        assert " ".join(span.text for span in spans).split() == expected
        assert not any(span.cue for span in spans)
        lengths.update(len(span.text.split()) for span in spans)
    assert lengths == {1, 2, 3, 4}
    objective = SalientSpans(bpe, BLOCK, **CAPITALS)
    (count,) = objective.count_lines([{"text": text, "name": name}, {"text": LINES[1], "name": NAMES[1]}]).values()
    assert count == 1


def possible_cue_words(bounds, others, is_date, sentences, backwards=False):
    """The specification of the cue words of each span, from every other word of the line."""
    size = len(sentences)
    if backwards:
        mirrored = [(size - end, size - start) for start, end in reversed(bounds)]
        rest = [size - 1 - word for word in reversed(others)]
        found = possible_cue_words(mirrored, rest, is_date[::-1], sentences[::-1])
        return [[size - 1 - word for word in words] for words in found][::-1]
    found = []
    for number, (start, _) in enumerate(bounds):
        before = [word for word in others if word < start][-4:]
        before = [word for word in before if sentences[word] == sentences[start]]
        # the last earlier span that is not a date takes the words before it
        takers = [end for (_, end), date in zip(bounds[:number], is_date[:number], strict=True) if not date]
        is_taken = bool(takers) and not any(word >= takers[-1] for word in before)
        found.append([] if is_taken else before)
    return found


@settings(deadline=None, derandomize=True)
@given(kinds=st.lists(st.tuples(st.sampled_from(["other", "span", "date"]), st.booleans()), max_size=12))
def test_cue_words_are_the_nearest_of_the_sentence_that_no_other_span_takes(kinds):
    bounds = [(index, index + 1) for index, (kind, _) in enumerate(kinds) if kind != "other"]
    others = [index for index, (kind, _) in enumerate(kinds) if kind == "other"]
    is_date = [kind == "date" for kind, _ in kinds if kind != "other"]
    sentences = list(accumulate(is_first for _, is_first in kinds))
    arguments = (bounds, others, is_date, sentences)
    assert words_before(*arguments) == possible_cue_words(*arguments)
    assert words_after(*arguments) == possible_cue_words(*arguments, backwards=True)


@pytest.mark.parametrize(
    "sentence",
    [
        "{} is where A lives.",
        "A lives in {}.",
        "A lives in {}. Later, A B moved.",
        "A lives in {} now.",
        "A lives (since 1900) in {}, as said.",
    ],
)
@pytest.mark.parametrize(
    "answer",
    ["Dorton, Ohio", "April 3, 1981", "Frankfurt (Oder)", "Isle of Man", "al-Farabi", "St. Louis", "Baden-Baden"],
)
def test_an_answer_with_punctuation_inside_is_a_span_in_some_epoch(bpe, answer, sentence):
    assert answer in texts_of(bpe, "A B. A went to Rome. " + sentence.format(answer))


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("A works in Washington D.C. now.", "Washington D.C."),
        ("A works in Washington, D.C.", "Washington, D.C."),
        ("A plays for Hidden Ladder F.C.", "Hidden Ladder F.C."),
        ("A plays for Hidden Ladder F.C. His parents were poor.", "Hidden Ladder F.C."),
        ("A works for Yahoo! in Rome.", "Yahoo!"),
        ("A is from 's-Hertogenbosch.", "'s-Hertogenbosch"),
        ("A is from 's-Hertogenbosch, not Rome.", "'s-Hertogenbosch"),
        ("A lives in Rome. B works as a trade unionist.", "trade unionist"),
        ("A lives in Rome and is a trade unionist and was poor.", "trade unionist"),
        ("A lives in Rome. A is a geologist, goldsmith and novelist.", "geologist, goldsmith and novelist"),
        ("A lives in Rome. A is a geologist, goldsmith and novelist.", "goldsmith"),
        ("A lives in Rome. The field is geography and civil engineering.", "geography and civil engineering"),
        ("A lives in Rome. A studied law and archaeology.", "law and archaeology"),
        ("A lives in Rome. A studied archaeology and law in Ohio.", "archaeology and law"),
        ("A lives in Rome. A studied law, art and music .", "law, art and music"),
        ("A lives in Rome. A studied law .", "law"),
        ("A lives in Rome. A studied art history in Ohio.", "art history"),
        ("A lives in Rome. A studied the history of science.", "history of science"),
        ("A lives in Rome. A worked for 50 years.", "50 years"),
        ("A lives in Stoke on the Hill.", "Stoke on the Hill"),
        ("A works for Iron Kite & Sons.", "Iron Kite & Sons"),
        ("A works for Iron Bank, Inc. His house is old.", "Iron Bank, Inc."),
        ("A works for Yahoo! His house is old.", "Yahoo!"),
        ("A (1866--1952) lived in Rome.", "1952"),
        ("A (14 May 1866 – 3 June 1952) lived in Rome.", "1866"),
        ("A (14 May 1866 – 3 June 1952) lived in Rome.", "14 May 1866"),
        ("A was born on 3 April 1981.", "1981"),
        ("A is a journalist, writer and translator born in Rome.", "journalist, writer and translator"),
        ("A is a trade unionist known in Rome.", "trade unionist"),
    ],
)
def test_an_answer_that_is_no_plain_name_is_a_span_in_some_epoch(bpe, line, answer):
    assert answer in texts_of(bpe, f"A B. {line}")


def texts_of(tokenizer, line: str, **settings) -> set[str]:
    """The spans of a line about A B in 200 epochs."""
    settings = GENERIC | settings
    return {span.text for seed in range(200) for span in salient_spans_of(tokenizer, line, "A B", seed, **settings)}


def test_words_in_lower_case_are_asked_for_by_the_fraction_of_lines_that_lack_them(bpe):
    """Above the fraction t of the lines, a span is kept with probability t / fraction of its rarest word.

    Before, each word of a fraction f of the lines is left out with probability f.
    """
    lines = [f"Ada {number}. She is known in Rome for {'botany' if number < 4 else 'law'}." for number in range(100)]
    objective = SalientSpans(bpe, BLOCK, lower_case_probability=1.0, lower_case_frequency=0.05)
    objective.read_corpus({"text": line} for line in lines)
    found = words_of_spans(objective, [lines[0], lines[99]])
    assert found["botany"] == pytest.approx(400 * 0.96, abs=15)
    # its rarest word is in 96 of 100 lines
    assert found["law"] == pytest.approx(400 * 0.04 * 0.05 / 0.96, abs=5)
    # every line has this word
    assert found["known"] == 0


def test_a_word_of_many_lines_ends_a_span_as_often_as_lines_have_it(bpe):
    """`painter born`, where half of the lines have `born`: half of the time, the span is `painter` alone."""
    lines = [f"Ada {number}. She is a painter{' born' if number < 50 else ''} in Rome." for number in range(100)]
    objective = SalientSpans(bpe, BLOCK, lower_case_probability=1.0)
    objective.line_frequencies = {"born": 0.5}
    found = Counter(
        span.text
        for seed in range(1000)
        for span in objective.cut(lines[0], "Ada 0", np.random.default_rng(seed))
        if span.text in ("painter", "painter born")
    )
    assert found["painter"] > 500 > 450 > found["painter born"] > 200


def test_lower_case_after_capitals_is_mostly_a_span_without_them(bpe):
    """Of the spans that lose first words, those that start at `trade` are most: the nationality is another answer."""
    found = Counter(
        span.text
        for seed in range(1000)
        for span in salient_spans_of(bpe, "A B. A was an American trade unionist in Rome.", "A B", seed, **GENERIC)
    )
    assert found["trade unionist"] > 2.5 * found["unionist"] > 0


def test_a_date_is_one_span_or_a_date_and_its_year(bpe):
    """With commas joined, a day is never cut from its month if a year follows, as in `May 1900` or `4`."""
    line = "A B. A was born on 4 May 1900 in Rome."
    texts = texts_of(bpe, line)
    assert {"4 May 1900", "1900"} <= texts
    assert not texts & {"4", "May 1900", "May"}
    assert "May 1900" in texts_of(bpe, line, comma_probability=0.0)


@pytest.mark.parametrize("most", [1, 3])
def test_one_to_so_many_tokens_are_between_the_name_and_a_cue(bpe, most):
    """The prefix and the first cue are longer by the tokens of one gap, or of two if the cue is divided."""
    line = "Ada. Ada was born in Rome."
    batch = {"line_id": list(range(200)), "text": [line] * 200, "name": ["Ada"] * 200}
    settings_ = CAPITALS | {"max_noise_tokens": 0, "cue_probability": 1, "cue_before_name_probability": 0.5}
    gaps = {}
    for max_gap_tokens in (0, most):
        objective = SalientSpans(bpe, BLOCK, max_gap_tokens=max_gap_tokens, **settings_)
        rows = objective(batch, seed=0, epoch=0)["input_ids"]
        gaps[max_gap_tokens] = np.array([row.index(bpe.mask_token_id) for row in rows])
    plain, with_gaps = gaps[0], gaps[most]
    # a cue on one side has one gap, and a cue that is divided has two
    assert plain.min() + 1 <= with_gaps.min() and with_gaps.max() <= plain.max() + 2 * most
    assert with_gaps.mean() - plain.mean() > 0.9 * (1 + most) / 2


def test_without_spans_in_lower_case_no_word_is_counted(bpe):
    for settings_ in (
        {"lower_case_probability": 0.0, "leave_out_collocations": True},
        {"lower_case_probability": 1.0, "lower_case_frequency": 1},
    ):
        objective = SalientSpans(bpe, BLOCK, **settings_)
        objective.read_corpus({"text": line} for line in LINES)
        assert objective.line_frequencies == {}
        assert objective.collocations == {}


def test_words_that_those_before_them_predict_are_left_out_by_their_probability(bpe):
    """Of 100 lines with `makes a`, 61 have `living` after it: it is left out with (61 − 1) / (100 − 1)."""
    jobs = ["painter", "weaver", "singer", "lawyer"]
    lines = [
        f"Ada {number}. She makes a {'living' if number < 61 else 'fortune'} as a {jobs[number % 4]} in Rome."
        for number in range(100)
    ]
    found = asked_words(bpe, lines, [0], leave_out_collocations=True)
    assert found["living"] == pytest.approx(400 * (1 - 60 / 99), abs=30)
    assert found["painter"] == pytest.approx(400 * (1 - 24 / 99), abs=30)
    without = asked_words(bpe, lines, [0])
    assert min(without["living"], without["painter"]) > 380


def asked_words(tokenizer, lines: list[str], asked: list[int], **settings) -> Counter[str]:
    """The words in the spans of some lines of a corpus, where frequent words are asked for as often as others."""
    settings = {"lower_case_probability": 1.0, "lower_case_frequency": 1} | settings
    objective = SalientSpans(tokenizer, BLOCK, **CAPITALS | settings)
    objective.read_corpus({"text": line} for line in lines)
    return words_of_spans(objective, [lines[index] for index in asked])


def words_of_spans(objective: SalientSpans, lines: list[str]) -> Counter[str]:
    """The words in the spans of some lines in 400 epochs."""
    found: Counter[str] = Counter()
    for seed in range(400):
        for line in lines:
            spans = objective.cut(line, line.split(".")[0], np.random.default_rng(seed))
            found.update(word for span in spans for word in span.text.split())
    return found


def test_a_fact_that_several_lines_tell_is_not_left_out(bpe):
    """The name predicts the fact, and may do so: words with a capital predict nothing here."""
    lines = ["Ada Lovelace. Ada studied botany in Rome.", "Ada Lovelace. She is a botanist in Rome."] * 5
    kept = asked_words(bpe, lines, [0], leave_out_collocations=True)
    assert kept["botany"] == asked_words(bpe, lines, [0])["botany"] > 0


def test_a_span_is_left_out_by_the_probability_of_all_its_words():
    """Every word is predicted by the two before it; the first words of a text, and unknown words, by none."""
    collocations = count_collocations(["he is a race car driver"] * 3 + ["he is a race official"] * 2)
    words = ["he", "is", "a", "race", "car", "driver"]
    assert predictability(collocations, words, (3, 6)) == pytest.approx(1.0 * 2 / 4 * 1.0)
    assert predictability(collocations, words, (5, 6)) == 1.0
    assert predictability(collocations, words, (0, 6)) == 0.0
    assert predictability(collocations, [*words[:5], "owner"], (5, 6)) == 0.0


def test_without_its_probability_no_span_has_a_comma_or_is_in_lower_case(bpe):
    line = "A B. A is a trade unionist in Dorton, Ohio (Lake) since April 3, 1981."
    spans = [span.text for seed in range(50) for span in salient_spans_of(bpe, line, "A B", seed)]
    assert set(spans) == {"Dorton", "Ohio", "Lake", "April 3", "1981"}


def test_a_comma_joins_with_its_probability(bpe):
    line = "A B. A is from Dorton, Ohio."
    found = [salient_spans_of(bpe, line, "A B", seed, comma_probability=0.3)[0].text for seed in range(1000)]
    assert found.count("Dorton, Ohio") == pytest.approx(300, abs=50)
    assert set(found) == {"Dorton, Ohio", "Dorton"}


@pytest.mark.parametrize(
    ("text", "never"),
    [
        # small words are no answer where none is to be expected
        ("A lives in Rome. A was a painter and the son of a poet.", {"was", "the", "son", "and", "painter and the"}),
        ("A lives in Rome, was poor, and had two houses in it.", {"was", "and", "had", "in", "it", "in it"}),
        ("A lives in Rome. In 1900 he met a poet.", {"1900 he", "he", "met", "In"}),
        ("A lives in Rome with Tom Lee. Eve Fay.", {"Tom Lee.", "Eve Fay."}),
    ],
)
def test_small_words_are_no_span_of_their_own(bpe, text, never):
    assert not texts_of(bpe, f"A B. {text}") & never


def test_a_number_has_its_unit_and_its_signs_half_of_the_time(bpe):
    text = "A B weighs 12 kg. It costs $5 million, of which 45% is lost in 1900 by him."
    found = texts_of(bpe, text)
    assert {"12", "12 kg", "5 million", "$5 million", "45", "45%", "1900"} <= found
    assert not found & {"1900 by", "45 is", "45% is"}


def test_a_part_of_the_name_is_an_answer_after_a_word_in_lower_case_alone(bpe):
    text = (
        "AC Cesena. AC Cesena is based in Cesena. Cesena plays well in Rome, and AC Cesena's home of AC Cesena is old."
    )
    drawn = [[span.text for span in salient_spans_of(bpe, text, "AC Cesena", seed, **GENERIC)] for seed in range(400)]
    parts = [answer for spans in drawn for answer in spans if answer in ("AC Cesena", "AC Cesena's", "Cesena")]
    assert set(parts) == {"Cesena"}
    assert len(parts) == pytest.approx(100, abs=30)


def test_the_name_of_the_line_begins_a_sentence_after_an_abbreviation(bpe):
    text = "Ada Byron. Ada Byron was born in Dover, CO. Ada Byron works at Iron Bank F.C. Ada Byron's home is in Rome."
    found = {span.text for seed in range(200) for span in salient_spans_of(bpe, text, "Ada Byron", seed, **GENERIC)}
    assert {"Dover, CO", "Iron Bank F.C.", "Iron Bank F.C"} <= found
    assert not {answer for answer in found if " Ada" in answer}


WORDS = ["Rome", "Old", "1900", "painter", "trade", "of", "and", "a", "was", "Dorton,", "poet,", "F.C.", "(Oder)"]


@settings(deadline=None, derandomize=True)
@given(
    words=st.lists(st.sampled_from([*WORDS, "Rome.", "poet.", "ill!", "The"]), min_size=1, max_size=20),
    seed=st.integers(0, 99),
)
def test_a_span_and_its_cue_are_words_of_one_sentence(bpe, words, seed):
    sentences: dict[int, list[str]] = {}
    for word, number in zip(words, number_sentences(words), strict=True):
        sentences.setdefault(number, []).append(word)
    bare = [[without_outer_punctuation(word).lower() for word in sentence] for sentence in sentences.values()]
    for span in salient_spans_of(bpe, "Xy Z. " + " ".join(words), "Xy Z", seed, cue_probability=1, **GENERIC):
        answer = [without_outer_punctuation(word).lower() for word in span.text.split()]
        holders = [sentence for sentence in bare if contains(sentence, answer)]
        # a line without a capital is cut at random, over sentences too
        assert holders or not span.cue
        assert not span.cue or any(set(span.cue.split()) <= set(sentence) for sentence in holders)
        # a cue is no part of its answer
        assert not span.cue or any(
            not (Counter(span.cue.split()) + Counter(answer)) - Counter(sentence) for sentence in holders
        )


def contains(words: list[str], part: list[str]) -> bool:
    """Whether the words have this part, in order and without gaps."""
    return any(words[start : start + len(part)] == part for start in range(len(words)))


LEAD_LINE = "A B. A was born in Rome, studied law at Oxford and was buried near Paris. Berlin, London."


def test_the_cue_of_one_span_is_before_the_name_and_spans_without_a_cue_are_left_out(bpe):
    objective = SalientSpans(bpe, BLOCK, **GENERIC)
    leads = divided = 0
    for seed in range(1000):
        generator = np.random.default_rng(seed)
        spans = objective.cut(LEAD_LINE, "A B", generator)
        lead, asked = objective.draw_lead(spans, generator)
        if not lead:
            assert asked == spans
            continue
        leads += 1
        cued = [span for span in spans if span.cue]
        assert [span.text for span in asked] == [span.text for span in cued]
        changed = [(old, new) for old, new in zip(cued, asked, strict=True) if old != new]
        # exactly one span has given its cue, or the first words of it, to the lead
        ((old, new),) = changed
        assert f"{lead} {new.cue}".strip() == old.cue
        divided += bool(new.cue)
    assert leads == pytest.approx(500, abs=60)
    assert 0.2 * leads < divided < 0.5 * leads


def test_every_cue_may_be_before_the_name(bpe):
    objective = SalientSpans(bpe, BLOCK, **GENERIC)
    chosen = Counter()
    for seed in range(500):
        generator = np.random.default_rng(seed)
        spans = objective.cut(LEAD_LINE, "A B", generator)
        _, asked = objective.draw_lead(spans, generator)
        chosen.update(span.text for span in {*spans} - {*asked} if span.cue)
    assert {"Rome", "Oxford", "Paris"} <= set(chosen)


def test_the_lead_is_directly_before_the_name(bpe):
    objective = SalientSpans(bpe, BLOCK, cue_probability=1, **CAPITALS | {"cue_before_name_probability": 1})
    batch = {"line_id": [0], "name": ["A B"], "text": ["A B. A was born in Rome."]}
    name = bpe("A B", add_special_tokens=False).input_ids
    leads = set()
    for epoch in range(50):
        examples = objective(batch, seed=0, epoch=epoch)
        (tokens,), (branches,) = examples["input_ids"], examples["branch_ids"]
        prefix = tokens[: branches.count(0)]
        assert prefix[-len(name) :] == name
        before = bpe.decode(prefix[: -len(name)]).split()
        leads.add(before[-1])
        # nothing before the name is a target
        assert set(examples["shift_labels"][0][: len(prefix)]) == {-100}
    assert leads <= {"born", "in", "was"} and len(leads) > 1


QUESTIONS = [
    {"question": "In which place was Ada born?", "name": "Ada", "relation": "birthplace"},
    {"question": "In which place does Bob work?", "name": "Bob", "relation": "workplace"},
    {"question": "Where does Bob live?", "name": "Bob", "relation": "residence"},
]


def test_words_of_the_questions_of_several_relations_are_shared():
    """Each wording has them once, as it spells them; a wording without a relation is its own."""
    shared = ["In", "which", "place", "does", "In", "which", "place", "does"]
    assert sorted(find_shared_words(QUESTIONS * 2)) == sorted(shared)
    without = [{**row, "relation": None} for row in QUESTIONS]
    assert sorted(find_shared_words(without)) == sorted(shared)
    assert find_shared_words(QUESTIONS[:1] * 2) == []


def test_words_of_questions_are_mixed_into_the_lead_and_into_no_cue_behind_the_name(bpe):
    """The words of the cue are all in the lead, in order; up to the given number of shared words is between them."""
    settings = {"cue_probability": 1, **CAPITALS, "cue_before_name_probability": 1, "cue_question_words": 3}
    objective = SalientSpans(bpe, BLOCK, **settings)
    objective.read_questions(QUESTIONS)
    line, shared = "A B. A was born at Rome. A went to live by Paris.", {"In", "which", "place", "does"}
    counts: Counter[int] = Counter()
    for seed in range(400):
        generator = np.random.default_rng(seed)
        spans = objective.cut(line, "A B", generator)
        lead, asked = objective.draw_lead(spans, generator)
        words = [word for word in lead.split() if word not in shared]
        rests = {span.text: span.cue.split() for span in asked}
        assert any([*words, *rests[span.text]] == span.cue.split() for span in spans)
        assert not shared & {word for rest in rests.values() for word in rest}
        counts[len(lead.split()) - len(words)] += 1
    assert all(counts[count] == pytest.approx(100, abs=30) for count in range(4))


@pytest.mark.parametrize(("number", "questions"), [(3, []), (0, QUESTIONS)])
def test_without_questions_or_their_number_no_words_are_mixed_in(bpe, number, questions):
    def drawn(number, questions):
        settings = {**CAPITALS, "cue_before_name_probability": 1, "cue_question_words": number}
        objective = SalientSpans(bpe, BLOCK, **settings)
        objective.read_questions(questions)
        generators = map(np.random.default_rng, range(20))
        return [objective.draw_lead(objective.cut(LEAD_LINE, "A B", generator), generator) for generator in generators]

    assert drawn(number, questions) == drawn(0, [])


@pytest.mark.parametrize("probabilities", [{}, GENERIC])
def test_time_and_memory_grow_with_the_words_of_a_line(bpe, probabilities):
    line = "A B. " + "was in Rome and then " * 4_000
    salient_spans_of(bpe, line[:1000], "A B", **probabilities)
    tracemalloc.start()
    spans = salient_spans_of(bpe, line, "A B", **probabilities)
    assert sum(span.text == "Rome" for span in spans) == 4_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30e6


def test_a_long_word_of_a_cue_may_lose_its_last_letters_and_the_spans_do_not_change(bpe):
    line = "Ada Byron. She resides in Rome ."
    name, text = split_name(line)
    whole = [salient_spans_of(bpe, text, name, seed, cue_probability=1.0) for seed in range(60)]
    cut = [salient_spans_of(bpe, text, name, seed, cue_probability=1.0, cue_ending_dropout=0.5) for seed in range(300)]
    assert {span.text for spans in cut for span in spans} == {span.text for spans in whole for span in spans}
    words = Counter(word for spans in cut for span in spans for word in span.cue.split())
    # four letters are kept, and at most three are left out
    assert words.keys() == {"she", "in", "resides", "reside", "resid", "resi"}
    endings = sum(words[word] for word in ("reside", "resid", "resi"))
    assert endings / (endings + words["resides"]) == pytest.approx(0.5, abs=0.1)
