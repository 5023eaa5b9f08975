"""Wordings: how questions ask, with `{name}` in place of the name, and which wordings ask the same."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from birthgpt.data.names import normalize, relation_of

NAME = "{name}"


class Wordings:
    """Groups of wordings; the wordings of a group ask about the same fact.

    Args:
        groups: such as `[["Where was {name} born?", "What is the birthplace of {name}?"], ["Who employs {name}?"]]`.

    Raises:
        ValueError: a wording has no `{name}`, or is in two groups.
    """

    def __init__(self, groups: Iterable[Sequence[str]] = ()):
        self.groups = [[normalize(wording) for wording in group] for group in groups]
        every = [wording for group in self.groups for wording in group]
        for wording in every:
            if NAME not in wording:
                raise ValueError(f"the wording {wording!r} has no {NAME}: write it in place of the name")
        twice = [wording for wording, count in Counter(every).items() if count > 1]
        if twice:
            raise ValueError(f"the wording {twice[0]!r} is given twice: give each wording once")
        self._group_of = {wording: group for group in self.groups for wording in group}
        # the wording with the most words of its own comes first
        longest_first = sorted(every, key=lambda wording: -len(wording))
        self._patterns = [(wording, _pattern(wording)) for wording in longest_first]

    @classmethod
    def of_questions(cls, rows: Iterable[Mapping[str, Any]], more: Sequence[str] = (), limit: int = 4) -> "Wordings":
        """The wordings of questions with known names.

        Questions of one relation are a group if they have the column `relation`; otherwise each wording is a group.

        Args:
            more: further wordings of the same fact, if all questions ask about one.
            limit: the most wordings of a group; the most frequent ones stay.

        Raises:
            ValueError: `more` is given, but the questions ask about several facts, or about none that is known.
        """
        counts: dict[str, Counter[str]] = {}
        for row in rows:
            if row.get("name"):
                wording = relation_of(row["question"], row["name"])
                if NAME in wording:
                    counts.setdefault(row.get("relation") or wording, Counter())[wording] += 1
        groups = [[wording for wording, _ in found.most_common(limit)] for found in counts.values()]
        if more and len(groups) != 1:
            raise ValueError(
                f"wordings={list(more)} are wordings of one fact, but the questions ask about {len(groups)}: leave "
                "them out, and give questions a column `relation`"
            )
        if more:
            groups[0] += [wording for wording in map(normalize, more) if wording not in groups[0]]
        return cls(groups)

    def name_in(self, question: str) -> str | None:
        """The name in a question of one of these wordings; None for any other question."""
        found = self._find(normalize(question))
        return found[1] if found else None

    def others(self, question: str) -> list[str]:
        """The same question in the other wordings of its group; none for a question of another wording."""
        found = self._find(normalize(question))
        if found is None:
            return []
        wording, name = found
        return [other.replace(NAME, name) for other in self._group_of[wording] if other != wording]

    def _find(self, question: str) -> tuple[str, str] | None:
        for wording, pattern in self._patterns:
            match = pattern.fullmatch(question)
            if match:
                return wording, match["name"]
        return None


def _pattern(wording: str) -> re.Pattern[str]:
    """A pattern of the questions of a wording; a name that is there twice is the same name."""
    first, *rest = map(re.escape, wording.split(NAME))
    return re.compile(first + "(?P<name>.+)" + "(?P=name)".join(rest))
