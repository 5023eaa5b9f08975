"""Look up what a model does not recall: in a table, or in the lines of a corpus, that a user gives."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from birthgpt.data.extraction import PatternRelation
from birthgpt.data.names import fold, name_key, normalize, relation_of, text_after_name
from birthgpt.data.questions import read_question_name
from birthgpt.evaluation.confidence import ConfidentAnswer
from birthgpt.evaluation.lookup_relations import AskedRelations
from birthgpt.evaluation.lookup_sources import Entry, Kind, LookupColumns, read_entries
from birthgpt.evaluation.wordings import NAME, Wordings

Match = Literal["exact", "folded", "similar", "words"]
"""How an entry was found: by the name; by the name without accents and punctuation; by a name with some other letters;
by its words."""

LONGEST_NAME = 8
"""Words of the longest name that is sought in a question of unknown wording."""

LINES = 3
"""Lines that are found by their words, at most."""

_EDGES = "\"'“”‘’«»„()[]?!,;:¿¡…"
_POSSESSIVE = re.compile(r"['’]s$")


class Mention(NamedTuple):
    """A part of a question that may be the name, and the question with `{name}` in its place."""

    name: str
    wording: str


@dataclass(frozen=True)
class Finding:
    """An entry that a question may be about.

    Args:
        entry: the row or the line.
        match: how it was found.
        spans: where `entry.text` answers the question: start and end of each place; empty if it does not tell it.
        is_about: whether it is known that this is what the question asks.
    """

    entry: Entry
    match: Match
    spans: tuple[tuple[int, int], ...] = ()
    is_about: bool = False

    @property
    def answers(self) -> tuple[str, ...]:
        """The answers, as they stand in the entry."""
        return tuple(dict.fromkeys(self.entry.text[start:end] for start, end in self.spans))

    @property
    def is_certain(self) -> bool:
        """Whether name and question are those of the entry, and it says one thing; a table may list several answers."""
        return (
            self.is_about
            and self.match != "similar"
            and (len(self.answers) == 1 or (self.entry.kind == "table" and bool(self.answers)))
        )


@dataclass(frozen=True)
class Lookup:
    """What was found for a question.

    Args:
        question: the question, normalised.
        findings: the entries about it, in the order of the source.
    """

    question: str
    findings: tuple[Finding, ...]

    @property
    def answer(self) -> str | None:
        """The answer; None if nothing is certain, or if entries with different answers have this name."""
        told = {finding.answers for finding in self.findings if finding.spans}
        if len(told) != 1 or not all(finding.is_certain for finding in self.findings if finding.spans):
            return None
        return told.pop()[0]


class LookupIndex:
    """Finds the entries that a question is about.

    It looks for the name as it is written, then without accents, capitals and punctuation, then with some letters wrong
    (one in six, at most three). If no name is found, lines and questions without one are ranked by BM25.

        index = LookupIndex.load("people.csv")
        index.find("Where was Ada Lovelace born?").answer

    Args:
        source: the file, for messages.
        entries: its rows or lines.
        patterns: how lines tell relations; those for English biographies if None.

    Raises:
        ValueError: rapidfuzz or bm25s is not installed.
    """

    def __init__(self, source: str, entries: Sequence[Entry], patterns: Sequence[PatternRelation] | None = None):
        check_libraries()
        self.source, self.entries = source, entries
        self._relations = AskedRelations(patterns, _known_wordings(entries))
        self._by_question = _grouped(entries, lambda entry: fold(entry.question))
        self._by_name = _grouped(entries, lambda entry: name_key(entry.name))
        self._by_fold = _grouped(entries, lambda entry: fold(entry.name))
        self._names = list(self._by_fold)
        # a line about somebody else may still contain what is asked
        self._unnamed = [entry for entry in entries if not entry.name or entry.kind == "corpus"]
        self._words: Any = None

    @classmethod
    def load(
        cls, source: str, columns: LookupColumns | None = None, patterns: Sequence[PatternRelation] | None = None
    ) -> "LookupIndex":
        """The index of a table or of a corpus; arguments and errors as in `read_entries`."""
        check_libraries()
        return cls(source, read_entries(source, columns), patterns)

    @property
    def kind(self) -> Kind:
        """What the source is."""
        return self.entries[0].kind

    def find(self, question: str, wordings: Wordings | None = None) -> Lookup:
        """The entries about a question.

        Args:
            question: any question; the name in it is found by the wordings, or by the names of the source.
            wordings: those of the calibration. A table without relations is taken to be about them, if they all ask
                about one fact.
        """
        wordings = wordings or Wordings()
        question = normalize(question)
        same_question = self._by_question.get(fold(question), ())
        if same_question:
            return Lookup(question, tuple(_in_table(entry, "exact", True) for entry in same_question))
        known = self._known_name(question, wordings)
        mentions = [known] if known else list(_mentions(question))
        match, mention, entries = self._by_names(mentions, is_known=known is not None)
        if mention is not None:
            return Lookup(question, self._about(entries, match, mention.wording, wordings))
        return Lookup(question, self._by_words(question, known, wordings))

    def _known_name(self, question: str, wordings: Wordings) -> Mention | None:
        name = wordings.name_in(question) or read_question_name(question)
        return None if name is None else Mention(name, relation_of(question, name))

    def _by_names(self, mentions: Sequence[Mention], is_known: bool) -> tuple[Match, Mention | None, Sequence[Entry]]:
        """The entries of the longest mention that is a name, and how it was found."""
        for mention in mentions:
            if entries := self._by_name.get(name_key(mention.name)):
                return "exact", mention, entries
        for mention in mentions:
            if entries := self._by_fold.get(fold(mention.name)):
                return "folded", mention, entries
        return self._by_similar_names(mentions, is_known)

    def _by_similar_names(
        self, mentions: Sequence[Mention], is_known: bool
    ) -> tuple[Match, Mention | None, Sequence[Entry]]:
        """The entries whose names have the fewest wrong letters: other, missing, further or exchanged ones."""
        from rapidfuzz import process
        from rapidfuzz.distance import OSA

        best: tuple[int, Mention | None, list[str]] = (4, None, [])
        for other in mentions:
            name = fold(other.name)
            # a single word of a question is often close to some name
            if not is_known and " " not in name:
                continue
            allowed = min(3, len(name) // 6, best[0] - 1)
            found = process.extract(name, self._names, scorer=OSA.distance, score_cutoff=allowed, limit=None)
            if allowed > 0 and found:
                least = found[0][1]
                best = (least, other, [near for near, distance, _ in found if distance == least])
        _, mention, names = best
        return "similar", mention, [entry for name in names for entry in self._by_fold[name]]

    def _about(self, entries: Iterable[Entry], match: Match, wording: str, wordings: Wordings) -> tuple[Finding, ...]:
        """The entries about a name that tell what is asked; all of them, without an answer, if none does."""
        same = self._relations.same(wording, wordings)
        is_only_fact = len(wordings.groups) == 1 and normalize(wording) in wordings.groups[0]
        found = []
        for entry in entries:
            if entry.kind == "corpus":
                found.append(self._in_line(entry, match, same))
            elif entry.relation or entry.question:
                asked = {fold(entry.relation), fold(relation_of(entry.question, entry.name))} - {""}
                found.append(_in_table(entry, match, True) if asked & same else Finding(entry, match))
            else:
                found.append(_in_table(entry, match, is_only_fact))
        return tuple([finding for finding in found if finding.spans] or found)

    def _in_line(self, entry: Entry, match: Match, same: set[str]) -> Finding:
        rest = normalize(text_after_name(entry.text, entry.name))
        start = len(entry.text) - len(rest)
        places = self._relations.places(rest, same)
        return Finding(entry, match, tuple((start + first, start + last) for first, last in places), is_about=True)

    def _by_words(self, question: str, known: Mention | None, wordings: Wordings) -> tuple[Finding, ...]:
        """The lines, and the questions without a known name, with the most telling words of the question."""
        if not self._unnamed:
            return ()
        if self._words is None:
            self._words = _word_index(self._unnamed)
        words = fold(question if known is None else known.name).split()
        scores = self._words.get_scores(words) if words else np.zeros(len(self._unnamed))
        ranked = np.argsort(-scores, kind="stable").tolist()
        entries = [self._unnamed[index] for index in ranked if scores[index] > 0]
        if known is None:
            return tuple(Finding(entry, "words") for entry in entries[:LINES])
        entries = [entry for entry in entries if f" {fold(known.name)} " in f" {fold(entry.text)} "][:LINES]
        same = self._relations.same(known.wording, wordings)
        found = []
        for entry in entries:
            # what a question of another wording, or a line about somebody else, says of this name is not certain
            is_line = entry.kind == "corpus" and not entry.name
            found.append(self._in_line(entry, "words", same) if is_line else _in_table(entry, "words", False))
        return tuple([finding for finding in found if finding.spans] or found)


def look_up(
    index: LookupIndex, questions: Sequence[str], answers: Sequence[ConfidentAnswer], wordings: Wordings | None = None
) -> list[Lookup | None]:
    """What is found for each question whose answer is not called *recalled*; None for the others.

    Args:
        answers: what `confidence.answer_with_confidence` returned for the questions.
        wordings: those of the calibration (`Calibration.known_wordings`).
    """
    return [
        None if answer.verdict == "recalled" else index.find(question, wordings)
        for question, answer in zip(questions, answers, strict=True)
    ]


def check_libraries() -> None:
    """Raise ValueError unless rapidfuzz and bm25s are installed."""
    try:
        import bm25s  # noqa: F401
        import rapidfuzz  # noqa: F401
    except ImportError as error:
        raise ValueError(f"looking up needs rapidfuzz and bm25s ({error}): pip install 'birthgpt[lookup]'") from None


def _known_wordings(entries: Iterable[Entry]) -> Iterator[tuple[str, str]]:
    """What the rows of a table with questions and relations say that wordings ask about."""
    pairs = {
        (relation_of(entry.question, entry.name), entry.relation)
        for entry in entries
        if entry.question and entry.name and entry.relation
    }
    yield from ((wording, relation) for wording, relation in sorted(pairs) if NAME in wording)


def _grouped(entries: Iterable[Entry], key_of: Callable[[Entry], str]) -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        if key := key_of(entry):
            found.setdefault(key, []).append(entry)
    return found


def _in_table(entry: Entry, match: Match, is_about: bool) -> Finding:
    return Finding(entry, match, entry.spans, is_about)


def _mentions(question: str) -> Iterator[Mention]:
    """All words in a row that may be a name, the longest first."""
    words = list(re.finditer(r"\S+", question))
    for count in range(min(LONGEST_NAME, len(words)), 0, -1):
        for first in range(len(words) - count + 1):
            start, end = words[first].start(), words[first + count - 1].end()
            text = question[start:end]
            name = _POSSESSIVE.sub("", text.rstrip(_EDGES)).lstrip(_EDGES)
            if fold(name):
                start += text.index(name)
                yield Mention(name, f"{question[:start]}{NAME}{question[start + len(name) :]}")


def _word_index(entries: Sequence[Entry]) -> Any:
    import bm25s

    index = bm25s.BM25()
    # the library divides by the mean length: an entry without words is one empty word
    index.index([fold(entry.text).split() or [""] for entry in entries], show_progress=False)
    return index
