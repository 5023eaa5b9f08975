"""Name-first recall: every span of a line is predicted from the name alone."""

from dataclasses import dataclass

import numpy as np

from birthgpt.data.objectives.recall_from_name import (
    RecallFromName,
    Span,
    without_outer_punctuation,
    words_after_name,
)
from birthgpt.settings import checked, setting


@checked
@dataclass
class NameFirst(RecallFromName):
    """The words after the name are cut at random into spans of 1 to `max_span_words` words, without cues."""

    max_span_words: int = setting(4, "name_first: words in the longest span", min=1)

    def cut(self, text: str, name: str, generator: np.random.Generator) -> list[Span]:
        """The spans after the name, in order; every letter and digit is in exactly one span."""
        words = words_after_name(text, name)
        lengths = generator.integers(1, self.max_span_words, endpoint=True, size=len(words))
        ends = [end for end in np.cumsum(lengths).tolist() if end < len(words)] + [len(words)]
        starts = [0, *ends]
        spans = [" ".join(words[start:end]) for start, end in zip(starts, ends, strict=False)]
        return [Span(span) for span in map(without_outer_punctuation, spans) if span]
