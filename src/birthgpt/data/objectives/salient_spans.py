"""Salient spans: names, places and dates are recalled from the name of the line, usually with a cue."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from birthgpt.data.objectives.lower_case_words import (
    Collocations,
    count_collocations,
    count_line_frequencies,
    find_lower_case_spans,
    predictability,
)
from birthgpt.data.objectives.question_answering import find_shared_words
from birthgpt.data.objectives.recall_from_name import (
    RecallFromName,
    Span,
    cut_at_random,
    without_outer_punctuation,
    words_after_name,
)
from birthgpt.data.objectives.salient_words import (
    MARKS,
    SHORT_WORD,
    Bounds,
    find_salient_spans,
    is_salient,
    number_sentences,
    split_marks,
    split_some_hyphens,
    text_of_span,
    without_possessive,
)
from birthgpt.settings import Number, checked, setting

NEAREST_WORDS = 4
"""A cue is drawn from so many words beside its span."""

SHORTEST_STEM, LONGEST_ENDING = 4, 3
"""Letters of a word in a cue that are always kept, and letters at its end that may be left out."""

MAX_RANDOM_WORDS = 4
"""Words in the longest span of a line without salient words."""


@checked
@dataclass
class SalientSpans(RecallFromName):
    """The spans are the words that start with a capital or a digit (salient span masking: Guu et al., 2002.08909).

    Names, places and dates are what distinguishes the line of a person from other lines. The first word of a sentence
    always has a capital: it counts half of the time, and a short one never. Spans that only repeat words of the name
    are rarely recalled (`is_part_of_name`): a line with no other spans has no example. A line in which no word has a
    capital or a digit, as in a script without capitals, is cut at random into spans of one to four words without cues.

    `comma_probability` adds answers with a comma or a bracket, and `lower_case_probability` answers in lower case (see
    `lower_case_words`). Words of many lines, such as `profession`, are rarely an answer. So a span in lower case, whose
    rarest word is in a fraction f of the lines, is asked for with probability min(1, t / f), t =
    `lower_case_frequency`, as frequent words are subsampled in word2vec (1310.4546, section 2.3). A word of a fraction
    f of the lines ends a span with probability f, such as `born` in `a painter born in Rome`. In `makes a living as a
    painter`, `living` tells nothing about a person either: it follows `makes a` in every line. So with
    `leave_out_collocations`, a span in lower case is left out with the probability that the two words before each of
    its words predict it (`count_collocations`).

    A question tells which fact is meant by words that are also in the line, so a fact is stored with its role: a cue is
    one to three of the nearest other words of the sentence, in lower case. Only the first span after such words has a
    cue, and dates do not count: in `born 4 May 1900, Berlin, Germany`, `born` is a cue of the date and of Berlin, but
    not of Germany. The cue is used with `cue_probability`. If a span has such words on both sides, the cue is after the
    span with `cue_after_probability`, as in `Berlin is the birthplace of`. If it has them only after it, the cue is
    always after it, unless this is 0. If it is positive, `Berlin-born` is read as two words half of the time.

    Many lines tell two dates without a word: `(4 May 1840, Rome – 3 June 1900, London)`. With `cue_marks`, an opening
    bracket and a dash are words of cues too: the bracket leads to the first date and to Rome, the dash to the second
    date and to London.

    With `cue_ending_dropout`, a word of a cue loses its last letters. A line says that X `resides`, and a question asks
    where X may `reside`, in other tokens: what both begin with is learned too (compare BPE-dropout, 1910.13267).

    A cue follows the name: `name cue ⁇ span`. In questions such as `Who is the leader of X?`, the words that matter are
    before the name. So with `cue_before_name_probability`, the cue of one span of the line is before the name; half of
    the time, only its first words are. All spans share these words, so spans without a cue are not asked for then.

    Between the name and a cue are one to `max_gap_tokens` random tokens, unless this is 0. Without them, the n-grams of
    name and cue store which fact is meant. A question has other n-grams, and the model has not learned to read the cue.

    Before the name, a question also has words that many questions share: `In which place is the job of X?`, where a
    line has only `job`. So up to `cue_question_words` of the words that the train questions of several relations share
    are mixed into the cue before the name. The model then learns what is asked from the other words.
    """

    cue_probability: Number = setting(0.8, "salient_spans: probability that a span has a cue", min=0, max=1)
    cue_after_probability: Number = setting(
        0.25,
        "salient_spans: probability that the cue is after the span, if both sides have one",
        min=0,
        max=1,
    )
    cue_before_name_probability: Number = setting(
        0.5, "salient_spans: probability that the cue of one span is before the name of the line", min=0, max=1
    )
    cue_ending_dropout: Number = setting(
        0.0,
        "salient_spans: probability that a longer word of a cue loses one to three letters at its end",
        min=0,
        max=1,
    )
    max_gap_tokens: int = setting(
        0, "salient_spans: the most random tokens between a name and a cue, which are one at least; 0 for none", min=0
    )
    cue_question_words: int = setting(
        0,
        "salient_spans: the most words that are mixed into a cue before the name, from train questions of several "
        "relations, such as which and place",
        min=0,
    )
    cue_marks: bool = setting(False, "salient_spans: dashes and opening brackets are words of cues, as in 1840 – 1900")
    comma_probability: Number = setting(
        0.5, "salient_spans: probability that a comma or two short words between two salient words join them",
        min=0, max=1,
    )  # fmt: skip
    lower_case_probability: Number = setting(
        1.0, "salient_spans: probability that longer words in lower case, such as trade unionist, are a span",
        min=0, max=1,
    )  # fmt: skip
    lower_case_frequency: Number = setting(
        0.02,
        "salient_spans: words in lower case are asked for less often, if more than this fraction of lines has them",
        above=0,
        max=1,
    )
    leave_out_collocations: bool = setting(
        False,
        "salient_spans: words in lower case are left out as often as the two words before them predict them, "
        "as in makes a living",
    )
    line_frequencies: dict[str, float] = field(default_factory=dict)
    collocations: Collocations = field(default_factory=dict)
    question_words: list[str] = field(default_factory=list)

    def read_corpus(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Count what spans in lower case are drawn by: how many lines have a word, and what words precede it."""
        if self.lower_case_probability and self.lower_case_frequency < 1:
            self.line_frequencies = count_line_frequencies(row["text"] for row in lines)
        if self.lower_case_probability and self.leave_out_collocations:
            self.collocations = count_collocations(row["text"] for row in lines)

    def read_questions(self, questions: Iterable[Mapping[str, Any]]) -> None:
        """Find the words that are mixed into cues."""
        if self.cue_question_words:
            self.question_words = find_shared_words(questions)

    def cut(self, text: str, name: str, generator: np.random.Generator) -> list[Span]:
        """The spans after the name with the cues drawn for them: salient spans in order, then those in lower case."""
        words = words_after_name(text, name)
        if self.cue_after_probability:
            words = split_some_hyphens(words, generator)
        if self.cue_marks:
            words = split_marks(words)
        bare = [without_outer_punctuation(word) for word in words]
        in_name = {without_outer_punctuation(word) for word in name.split()}
        salient = list(map(is_salient, bare))
        if not (any(salient[1:]) or (any(salient) and bare[0] in in_name)):
            return cut_at_random(words_after_name(text, name), MAX_RANDOM_WORDS, generator)
        sentences = number_sentences(words, [without_possessive(word) for word in name.split()])
        for index, word in enumerate(bare):
            is_first = index == 0 or sentences[index] != sentences[index - 1]
            if salient[index] and word.isalpha() and word not in in_name and is_first:
                is_short = len(word) <= SHORT_WORD
                # an abbreviation is part of a name, as in St. Louis
                salient[index] = words[index][-1] == "." if is_short else generator.random() < 0.5
        bounds = find_salient_spans(words, salient, sentences, generator, self.comma_probability)
        marks = MARKS if self.cue_marks else ()
        cue_words = [bare[index].lower() or (word if word in marks else "") for index, word in enumerate(words)]
        others = [index for index, word in enumerate(cue_words) if word and not salient[index]]
        is_date = [any(character.isdigit() for word in bare[start:end] for character in word) for start, end in bounds]
        before = words_before(bounds, others, is_date, sentences)
        after = words_after(bounds, others, is_date, sentences)
        if self.lower_case_probability:
            left_out = self.draw_left_out(bare, salient, generator)
            lower = find_lower_case_spans(words, salient, generator, self.lower_case_probability, left_out)
            lower = [span for span in lower if self.is_kept(bare, span, generator)]
            # every such span has words of its own before it
            before += [nearest_before(others, start, sentences) for start, _ in lower]
            after += [nearest_after(others, end, sentences) for _, end in lower]
            bounds = bounds + lower
        spans = []
        for index, span in enumerate(bounds):
            answer = text_of_span(words, span, generator)
            repeats_name = in_name.issuperset(map(without_possessive, answer.split()))
            if answer and (not repeats_name or is_part_of_name(words, span, sentences, in_name, generator)):
                cue = self.draw_cue(before[index], after[index] if self.cue_after_probability else [], generator)
                spans.append(Span(answer, " ".join(self.vary_ending(cue_words[word], generator) for word in cue)))
        return spans

    def draw_left_out(self, bare: list[str], salient: list[bool], generator: np.random.Generator) -> list[bool]:
        """The words in lower case that end a span, each as often as lines have it, such as `born`."""
        frequencies = [self.line_frequencies.get(word.lower(), 0.0) for word in bare]
        return [
            not capital and frequency > 0 and generator.random() < frequency
            for capital, frequency in zip(salient, frequencies, strict=True)
        ]

    def is_kept(self, bare: list[str], span: Bounds, generator: np.random.Generator) -> bool:
        """Whether a span in lower case is drawn: by the lines that have its rarest word, and by the words before it."""
        frequency = min(self.line_frequencies.get(word.lower(), 0.0) for word in bare[slice(*span)])
        if frequency > self.lower_case_frequency and generator.random() >= self.lower_case_frequency / frequency:
            return False
        return not self.collocations or generator.random() >= predictability(self.collocations, bare, span)

    def draw_lead(self, spans: list[Span], generator: np.random.Generator) -> tuple[str, list[Span]]:
        """With `cue_before_name_probability`, the cue of one span; then only this span and those with cues are left."""
        cued = [index for index, span in enumerate(spans) if span.cue]
        if not (self.cue_before_name_probability and cued) or generator.random() >= self.cue_before_name_probability:
            return "", spans
        chosen = cued[generator.integers(len(cued))]
        words = spans[chosen].cue.split()
        is_divided = len(words) > 1 and generator.random() < 0.5
        count = int(generator.integers(1, len(words))) if is_divided else len(words)
        lead, rest = self.mix_in_question_words(words[:count], generator), " ".join(words[count:])
        return lead, [Span(text, rest if index == chosen else cue) for index, (text, cue) in enumerate(spans) if cue]

    def draw_gaps(self, count: int, generator: np.random.Generator) -> list[list[int]]:
        """Random tokens for the gaps of a stem."""
        if not self.max_gap_tokens:
            return super().draw_gaps(count, generator)
        return [self.draw_tokens(1, self.max_gap_tokens, generator) for _ in range(count)]

    def mix_in_question_words(self, cue: list[str], generator: np.random.Generator) -> str:
        """The cue with drawn words of questions at drawn places."""
        words = list(cue)
        if self.question_words:
            for _ in range(generator.integers(self.cue_question_words, endpoint=True)):
                word = self.question_words[generator.integers(len(self.question_words))]
                words.insert(generator.integers(len(words), endpoint=True), word)
        return " ".join(words)

    def vary_ending(self, word: str, generator: np.random.Generator) -> str:
        """The word, or its beginning of at least `SHORTEST_STEM` letters if its ending is drawn to be left out."""
        most = min(LONGEST_ENDING, len(word) - SHORTEST_STEM)
        if not self.cue_ending_dropout or most < 1 or generator.random() >= self.cue_ending_dropout:
            return word
        return word[: -int(generator.integers(1, most, endpoint=True))]

    def count_lines(self, lines: Iterable[Mapping[str, Any]]) -> dict[str, int]:
        """The lines with a name that are cut at random."""
        count = sum(bool(line["name"]) and not has_salient_word(line["text"], line["name"]) for line in lines)
        return {"have no word with a capital or a digit: their spans are cut at random": count}

    def draw_cue(self, before: list[int], after: list[int], generator: np.random.Generator) -> list[int]:
        """One to three of the four nearest words on one side, in order; empty if the span gets no cue.

        Args:
            before, after: indices of the possible cue words on each side of the span, the nearest last.
        """
        if not (before or after) or generator.random() >= self.cue_probability:
            return []
        is_after = after and (not before or generator.random() < self.cue_after_probability)
        leading = after if is_after else before
        count = generator.integers(1, min(3, len(leading)), endpoint=True)
        near = leading[-(count + 1) :]
        return sorted(near[index] for index in generator.choice(len(near), size=count, replace=False))


def has_salient_word(text: str, name: str) -> bool:
    """Whether a word after the name is salient; the first one, which always has a capital, only if in the name."""
    first, *others = map(without_outer_punctuation, words_after_name(text, name) or [""])
    in_name = {without_outer_punctuation(word) for word in name.split()}
    return (first in in_name and is_salient(first)) or any(map(is_salient, others))


def is_part_of_name(
    words: list[str], span: Bounds, sentences: list[int], in_name: set[str], generator: np.random.Generator
) -> bool:
    """Whether a span is a part of the name that is drawn to be an answer, a quarter of the time.

    AC Cesena may be based in Cesena, but most parts of a name only mention the person. So an answer follows a word in
    lower case of its sentence, and is neither the whole name nor a possessive.
    """
    start, end = span
    follows = start > 0 and sentences[start] == sentences[start - 1] and words[start - 1].islower()
    answer = {without_outer_punctuation(word) for word in words[start:end]}
    return follows and answer < in_name and generator.random() < 0.25


def nearest_before(others: list[int], start: int, sentences: list[int]) -> list[int]:
    """Up to four of these words before a span, in its sentence, the nearest last."""
    last = bisect_left(others, start)
    return [index for index in others[max(0, last - NEAREST_WORDS) : last] if sentences[index] == sentences[start]]


def nearest_after(others: list[int], end: int, sentences: list[int]) -> list[int]:
    """Up to four of these words after a span, in its sentence, the nearest last."""
    first = bisect_left(others, end)
    near = others[first : first + NEAREST_WORDS]
    return [index for index in reversed(near) if sentences[index] == sentences[end - 1]]


def words_before(bounds: list[Bounds], others: list[int], is_date: list[bool], sentences: list[int]) -> list[list[int]]:
    """For each span, up to four possible cue words before it, the nearest last; empty if an earlier span takes them.

    Args:
        bounds: start and end of each span.
        others: indices of the words that are not salient, in order.
        is_date: whether each span is a date, which takes no words from other spans.
        sentences: the number of the sentence of each word.
    """
    leading, previous_end, are_free = [], 0, True
    for (start, end), date in zip(bounds, is_date, strict=True):
        before = nearest_before(others, start, sentences)
        are_free = are_free or bool(before and before[-1] >= previous_end)
        leading.append(before if are_free else [])
        are_free, previous_end = are_free and date, end
    return leading


def words_after(bounds: list[Bounds], others: list[int], is_date: list[bool], sentences: list[int]) -> list[list[int]]:
    """For each span, the possible cue words after it, as in `words_before`."""
    leading, next_start, are_free = [], 0, True
    for (start, end), date in zip(reversed(bounds), reversed(is_date), strict=True):
        after = nearest_after(others, end, sentences)
        are_free = are_free or bool(after and after[-1] < next_start)
        leading.append(after if are_free else [])
        are_free, next_start = are_free and date, start
    return leading[::-1]
