"""Examples about invented names, whose answer is the unknown-answer token."""

from dataclasses import dataclass

import numpy as np

from birthgpt.data.unknown_names import UnknownNames
from birthgpt.settings import Number, setting


@dataclass(kw_only=True)
class UnknownAnswers:
    """Mixin of objectives that also ask about names that no line has.

    Beside a line or question with a name, there is a second example with probability `unknown_name_ratio`: the same
    words around an invented name, and the answer ␀. The examples of lines and questions stay the same, so only the name
    tells which answers are unknown.
    """

    unknown_name_ratio: Number = setting(
        0.0,
        "probability that a line or question has a second example: with an invented name, and the answer unknown",
        min=0, max=1,
    )  # fmt: skip
    unknown_name_new_parts: Number = setting(
        0.5, "fraction of invented names with words that no name has; the others are recombined from names",
        min=0, max=1,
    )  # fmt: skip
    unknown_name_excluded: list[str] | None = setting(
        None, "files of questions, such as development questions, whose names are never invented"
    )
    unknown_names: UnknownNames | None = None

    def draw_unknown_name(self, seed: int, epoch: int, line_id: int) -> str | None:
        """An invented name for the second example of a line or question, or None if it has none."""
        if self.unknown_names is None:
            return None
        # not the generator of the line, whose example stays the same
        generator = np.random.default_rng((seed, epoch, line_id, 1))
        if generator.random() >= self.unknown_name_ratio:
            return None
        return self.unknown_names.draw(generator).name
