"""What a question asks about: the same in all of its wordings, and in the words of a table."""

from collections.abc import Iterable, Sequence

from birthgpt.data.extraction import PatternRelation, birthplace_patterns, builtin_patterns
from birthgpt.data.names import fold, normalize
from birthgpt.data.synthetic.templates import Relation, builtin_templates
from birthgpt.evaluation.wordings import Wordings


class AskedRelations:
    """Wordings of questions and names of relations that mean the same.

    It knows the questions of the synthetic people and of the patterns, and those that a table contains.

    Args:
        patterns: how lines tell relations; those for English biographies if None.
        known: further pairs of a wording, with `{name}` in it, and the name of its relation.
    """

    def __init__(self, patterns: Sequence[PatternRelation] | None = None, known: Iterable[tuple[str, str]] = ()):
        self.patterns = (*birthplace_patterns(), *builtin_patterns()) if patterns is None else tuple(patterns)
        self._names: dict[str, set[str]] = {}
        self._wordings: dict[str, set[str]] = {}
        for relation in (*builtin_templates().relations, *(pattern.questions for pattern in self.patterns)):
            for wording in _wordings_of(relation):
                self._add(wording, relation.name)
        for wording, name in known:
            self._add(wording, name)

    def same(self, wording: str, wordings: Wordings) -> set[str]:
        """The folded names and wordings of what a wording asks about.

        Args:
            wording: a question with `{name}` in place of the name.
            wordings: groups of wordings that ask the same, such as those of a calibration.
        """
        groups = [group for group in wordings.groups if normalize(wording) in group]
        found = {fold(other) for other in (wording, *(groups[0] if groups else ()))}
        names = {name for other in found for name in self._names.get(other, ())}
        return found | names | {other for name in names for other in self._wordings[name]}

    def places(self, text: str, same: set[str]) -> list[tuple[int, int]]:
        """Where a text tells what is asked: start and end of each place.

        Args:
            text: what follows the name in a line.
            same: what `same` returned for the question.
        """
        patterns = [pattern for pattern in self.patterns if fold(pattern.name) in same]
        return sorted({span for pattern in patterns for span in pattern.places(text)})

    def _add(self, wording: str, name: str) -> None:
        self._names.setdefault(fold(wording), set()).add(fold(name))
        self._wordings.setdefault(fold(name), set()).add(fold(wording))


def _wordings_of(relation: Relation) -> list[str]:
    return [template.text for template in (*relation.questions, *relation.new_questions)]
