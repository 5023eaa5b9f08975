"""Examples about invented names, whose answer is the unknown-answer token."""

from dataclasses import dataclass

import numpy as np

from birthgpt.data.unknown_names import UnknownNames
from birthgpt.settings import Number, setting


@dataclass(kw_only=True)
class UnknownAnswers:
    """Mixin of objectives that also ask about names that no line has.

    Beside a line or question with a name, there may be a second example: the same words around an invented name, and
    the answer ␀. The examples of lines and questions stay the same, so only the name tells which answers are unknown.
    """

    unknown_name_new_parts: Number = setting(
        0.5, "fraction of invented names with words that no name has; the others are recombined from names",
        min=0, max=1,
    )  # fmt: skip
    unknown_name_excluded: list[str] | None = setting(
        None, "files of questions, such as development questions, whose names are never invented"
    )
    unknown_names: UnknownNames | None = None

    def draw_unknown_name(self, ratio: float, *seeds: int) -> str | None:
        """An invented name for the second example of a line or question, with probability `ratio`; or None.

        Args:
            ratio: the share of lines or questions that have a second example.
            seeds: seed, epoch, and the number of the line or question.
        """
        if self.unknown_names is None or not ratio:
            return None
        # not the generator of the line, whose example stays the same
        generator = np.random.default_rng((*seeds, 1))
        if generator.random() >= ratio:
            return None
        return self.unknown_names.draw(generator).name

    def draw_read_name(self, *seeds: int) -> str:
        """A name of the corpus, for a question whose answer need not be known."""
        assert self.unknown_names is not None
        names = self.unknown_names.names
        return names[np.random.default_rng((*seeds, 2)).integers(len(names))]
