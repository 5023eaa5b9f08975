"""Name-first recall: every span of a line is predicted from the name alone."""

from dataclasses import dataclass

import numpy as np

from birthgpt.data.objectives.recall_from_name import RecallFromName, Span, cut_at_random, words_after_name
from birthgpt.settings import checked, setting


@checked
@dataclass
class NameFirst(RecallFromName):
    """The words after the name are cut at random into spans of 1 to `max_span_words` words, without cues."""

    max_span_words: int = setting(4, "name_first: words in the longest span", min=1)

    def cut(self, text: str, name: str, generator: np.random.Generator) -> list[Span]:
        """The spans after the name, in order; every letter and digit is in exactly one span."""
        return cut_at_random(words_after_name(text, name), self.max_span_words, generator)
