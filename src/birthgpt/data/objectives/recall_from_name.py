"""The base class of the objectives that recall spans of a line from its name."""

import unicodedata
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal, NamedTuple

import numpy as np

from birthgpt.data.names import text_after_name
from birthgpt.data.objectives.base import (
    IGNORE,
    Batch,
    Objective,
    append_branches,
    append_example,
    line_generator,
    new_batch,
)
from birthgpt.data.objectives.unknown_answers import UnknownAnswers
from birthgpt.data.tokenizers import UNKNOWN_ANSWER_TOKEN
from birthgpt.settings import Number, setting


class Span(NamedTuple):
    """The words of a line to recall, and the cue: words next to the span that tell which span is meant."""

    text: str
    cue: str = ""


class Stem(NamedTuple):
    """What the examples of a name are made of: noise, lead and name are the prefix, the spans are its branches.

    The gaps are tokens between the name and a cue: the first one is behind the lead, the others before the cue of each
    span.
    """

    line_id: int
    noise: list[int]
    lead: str
    name: str
    spans: list[Span]
    gaps: list[list[int]]
    is_invented: bool = False

    def about(self, invented: str) -> "Stem":
        """The same cues after an invented name; the answer is unknown for each of them."""
        spans = [Span(UNKNOWN_ANSWER_TOKEN, span.cue) for span in self.spans]
        return self._replace(name=invented, spans=spans, is_invented=True)


@dataclass
class RecallFromName(UnknownAnswers, Objective):
    """Each span of a line is a branch `cue ⁇ span ␃` after the shared prefix, which ends with the name.

    A branch sees only the prefix and itself, and its positions continue the positions of the prefix. So the order of
    the branches does not matter. Targets are the spans and their ␃, but not the prefix, a cue or the ⁇ before
    a span. Punctuation at the edges of a span is left out, so that a fact is stored in the form of an answer.

    The prefix starts with 0 to `max_noise_tokens` random tokens of the vocabulary. A model that has seen names only at
    the start of a sequence does not recognise them after the `Where was` of a question.

    `objective_layout="branches"` packs the branches of a line after one prefix, in as many examples as the block size
    requires. A line is never cut. `objective_layout="unrolled"` makes one example per span, for attention types that
    do not support branches. A line without a name has no example.

    With `unknown_name_ratio`, the cues of some lines are also asked for after an invented name, and each branch is
    `cue ⁇ ␀ ␃`. An invented name that leaves no room in the block has no example.
    """

    objective_layout: Literal["branches", "unrolled"] = setting(
        "branches", "recall from names: branches (one pass per line) or unrolled (one pass per span)"
    )
    max_noise_tokens: int = 4
    unknown_name_ratio: Number = setting(
        0.0, "probability that a line has a second example: with an invented name, and unknown for every span",
        min=0, max=1,
    )  # fmt: skip

    def cut(self, text: str, name: str, generator: np.random.Generator) -> list[Span]:
        """The spans of a line to recall."""
        raise NotImplementedError

    def __call__(self, batch: Batch, *, seed: int, epoch: int) -> Batch:
        stems: list[Stem] = []
        for line_id, name, text in zip(batch["line_id"], batch["name"], batch["text"], strict=True):
            if name:
                generator = line_generator(seed, epoch, line_id)
                lead, asked = self.draw_lead(self.cut(text, name, generator), generator)
                noise = self.draw_tokens(0, self.max_noise_tokens, generator)
                stem = Stem(line_id, noise, lead, name, asked, self.draw_gaps(1 + len(asked), generator))
                stems.append(stem)
                invented = self.draw_unknown_name(self.unknown_name_ratio, seed, epoch, line_id)
                if invented is not None:
                    stems.append(stem.about(invented))
        texts = iter(self.encode([span.text for stem in stems for span in stem.spans]))
        cues = iter(self.encode([span.cue for stem in stems for span in stem.spans]))
        examples = new_batch()
        leads, names = self.encode([stem.lead for stem in stems]), self.encode([stem.name for stem in stems])
        for stem, lead_tokens, name_tokens in zip(stems, leads, names, strict=True):
            lead_gap, *gaps = stem.gaps
            spans = [(behind(gap, next(cues)), next(texts)) for gap in gaps]
            if stem.is_invented and len(name_tokens) > self.block_size - 2:
                continue
            # a long name has priority over what is before it
            room = max(0, self.block_size - len(name_tokens) - 2)
            lead_tokens = lead_tokens + lead_gap if lead_tokens else []
            before = [*stem.noise[: max(0, room - len(lead_tokens))], *lead_tokens][:room]
            self._append_line(examples, stem.line_id, before + name_tokens, spans)
        return examples

    def draw_lead(self, spans: list[Span], generator: np.random.Generator) -> tuple[str, list[Span]]:
        """The words before the name, and the spans to ask for after them; here no words, and all spans."""
        return "", spans

    def draw_gaps(self, count: int, generator: np.random.Generator) -> list[list[int]]:
        """Tokens for the gaps of a stem; here none."""
        return [[] for _ in range(count)]

    def draw_tokens(self, fewest: int, most: int, generator: np.random.Generator) -> list[int]:
        """`fewest` to `most` random tokens, without special tokens."""
        count = generator.integers(fewest, most, endpoint=True)
        return [self._ordinary_tokens[index] for index in generator.integers(0, len(self._ordinary_tokens), size=count)]

    @cached_property
    def _ordinary_tokens(self) -> list[int]:
        special = set(self.tokenizer.all_special_ids)
        return [token for token in range(len(self.tokenizer)) if token not in special]

    def _append_line(
        self, examples: Batch, line_id: int, prefix: list[int], spans: list[tuple[list[int], list[int]]]
    ) -> None:
        """Add the examples of one line; each span is (cue, text)."""
        longest = self.block_size - len(prefix) - 1
        if longest < 1:
            raise ValueError(
                f"line {line_id}: its name has {len(prefix)} tokens and leaves no room for a span in "
                f"block_size={self.block_size}"
            )
        group: list[tuple[list[int], list[int], bool]] = []
        room = 0
        for cue, text in spans:
            branch = self._branch(cue, text, longest)
            inputs, targets, truncated = branch
            if self.objective_layout == "unrolled":
                append_example(examples, line_id, prefix + inputs, [IGNORE] * len(prefix) + targets, truncated)
                continue
            if group and len(inputs) > room:
                append_branches(examples, line_id, prefix, group)
                group = []
            if not group:
                room = self.block_size - len(prefix)
            group.append(branch)
            room -= len(inputs)
        if group:
            append_branches(examples, line_id, prefix, group)

    def _branch(self, cue: list[int], text: list[int], longest: int) -> tuple[list[int], list[int], bool]:
        """Inputs and targets of `cue ⁇ text ␃`, and whether the text was truncated to `longest` tokens."""
        mask, end = self.tokenizer.mask_token_id, self.tokenizer.eos_token_id
        # a span has priority over its cue if both do not fit into the block
        cue = cue if len(cue) + len(text) <= longest else []
        inputs = [*cue, mask, *text[:longest]]
        targets = [IGNORE] * len(cue) + [*text, end][: longest + 1]
        return inputs, targets, len(text) > longest


def behind(gap: list[int], cue: list[int]) -> list[int]:
    """A cue behind its gap; empty if there is no cue."""
    return gap + cue if cue else []


def words_after_name(text: str, name: str) -> list[str]:
    """The words of a line, without the name at its start."""
    return text_after_name(text, name).split()


def cut_at_random(words: list[str], max_span_words: int, generator: np.random.Generator) -> list[Span]:
    """Spans of 1 to `max_span_words` words, in order; every letter and digit is in exactly one span."""
    lengths = generator.integers(1, max_span_words, endpoint=True, size=len(words))
    ends = [end for end in np.cumsum(lengths).tolist() if end < len(words)] + [len(words)]
    starts = [0, *ends]
    spans = [" ".join(words[start:end]) for start, end in zip(starts, ends, strict=False)]
    return [Span(span) for span in map(without_outer_punctuation, spans) if span]


# lines are cut again in every epoch, but their words stay the same
@lru_cache(maxsize=100_000)
def without_outer_punctuation(text: str) -> str:
    """The text from its first to its last letter, mark or digit; empty if it has none."""
    inner = [index for index, character in enumerate(text) if unicodedata.category(character)[0] in "LMN"]
    return text[inner[0] : inner[-1] + 1] if inner else ""
