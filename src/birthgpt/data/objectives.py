"""Objectives: how a line becomes input and target, as batched map functions for `datasets`.

An objective is called as `objective(batch, seed=…, epoch=…)` and returns the columns

- `line_id`: the line (or question) that the example comes from,
- `input_ids`, `position_ids`: (length,),
- `branch_ids`: (length,), 0 = stem, k > 0 = the k-th branch; all 0 where there are no branches,
- `shift_labels`: (length,), the token that each position is to predict, −100 where none is,
- `truncated`: whether something of the line was left out.

All randomness comes from (seed, epoch, line_id): the same call gives the same examples in whatever order,
process or restart it is made.
"""

import unicodedata
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import datasets
import numpy as np
from transformers import PreTrainedTokenizerBase

IGNORE = -100
# the columns that an objective gives, and their types: datasets would look at every token to find them out
FEATURES = datasets.Features(
    {
        "line_id": datasets.Value("int64"),
        "input_ids": datasets.List(datasets.Value("int32")),
        "position_ids": datasets.List(datasets.Value("int32")),
        "branch_ids": datasets.List(datasets.Value("int32")),
        "shift_labels": datasets.List(datasets.Value("int32")),
        "truncated": datasets.Value("bool"),
    }
)
# tokens that an objective keeps in memory, of 8 bytes each
MAX_CACHED_TOKENS = 5_000_000
Batch = dict[str, list]


def line_generator(seed: int, epoch: int, line_id: int) -> np.random.Generator:
    """The random numbers of one line in one epoch."""
    return np.random.default_rng((seed, epoch, line_id))


class TokenCache(dict):
    """The tokens of texts: every epoch asks for the same lines and spans again. Too many are forgotten, all at once."""

    count = 0

    def remember(self, tokens_of: dict[str, list[int]]) -> None:
        """Keep these, in the place of all others where they would be too many together."""
        count = sum(map(len, tokens_of.values()))
        if self.count + count > MAX_CACHED_TOKENS:
            self.clear()
            self.count = 0
        self.update(tokens_of)
        self.count += count


@dataclass(frozen=True)
class Objective:
    """Base of every objective: a tokenizer, and the longest example in tokens."""

    tokenizer: PreTrainedTokenizerBase
    block_size: int

    def __call__(self, batch: Batch, *, seed: int, epoch: int) -> Batch:
        raise NotImplementedError

    def encode(self, texts: list[str]) -> list[list[int]]:
        """The tokens of each text; they are shared with later calls, so not to be changed."""
        tokens_of = {text: self._known.get(text) for text in texts}
        new = [text for text, tokens in tokens_of.items() if tokens is None]
        if new:
            # silent about lines longer than a block: the objective says what becomes of them
            encoded = self.tokenizer(new, add_special_tokens=False, return_attention_mask=False, verbose=False)
            encoded = dict(zip(new, encoded["input_ids"], strict=True))
            self._known.remember(encoded)
            tokens_of |= encoded
        return [tokens_of[text] for text in texts]

    @cached_property
    def _known(self) -> TokenCache:
        return TokenCache()


@dataclass(frozen=True)
class SpanCorruption(Objective):
    """The assignment's objective: `prefix ⁇ suffix ⁇ masked ⁇`, then pads up to the block.

    A line is truncated to a random length in [4, 7/8 of the block] and cut into prefix, masked content
    (of random length, a quarter of the line on average) and suffix. Every token but the pads is a target.
    Without `truncate_lines`, only what the block cannot hold is cut off.
    """

    truncate_lines: bool = True

    def __post_init__(self):
        if self.block_size < 24:
            raise ValueError(f"block_size={self.block_size}: span corruption needs at least 24 tokens")

    def __call__(self, batch: Batch, *, seed: int, epoch: int) -> Batch:
        examples = _new_batch()
        for line_id, tokens in zip(batch["line_id"], self.encode(batch["text"]), strict=True):
            prefix, masked, suffix = self.cut(tokens, line_generator(seed, epoch, line_id))
            mask = [self.tokenizer.mask_token_id]
            text = prefix + mask + suffix + mask + masked + mask
            pads = [self.tokenizer.pad_token_id] * (self.block_size - len(text))
            truncated = len(prefix) + len(masked) + len(suffix) < len(tokens)
            _append(examples, line_id, text + pads, text[1:], truncated)
        return examples

    def cut(self, tokens: list[int], generator: np.random.Generator) -> tuple[list[int], list[int], list[int]]:
        """Prefix, masked content and suffix of the truncated line."""
        drawn = int(generator.integers(4, self.block_size * 7 // 8, endpoint=True))
        # the three ⁇ stand in the block too
        tokens = tokens[: drawn if self.truncate_lines else self.block_size - 3]
        longest_mask = max(1, round(len(tokens) / 2 - 1))
        mask_length = int(generator.integers(1, longest_mask, endpoint=True))
        start = int(generator.integers(0, max(0, len(tokens) - mask_length), endpoint=True))
        return tokens[:start], tokens[start : start + mask_length], tokens[start + mask_length :]


@dataclass(frozen=True)
class LanguageModeling(Objective):
    """Plain language modelling: `line ⁇`, every token a target; a longer line is cut at the block."""

    def __call__(self, batch: Batch, *, seed: int, epoch: int) -> Batch:
        examples = _new_batch()
        for line_id, tokens in zip(batch["line_id"], self.encode(batch["text"]), strict=True):
            text = [*tokens, self.tokenizer.mask_token_id]
            inputs, targets = text[:-1][: self.block_size], text[1:][: self.block_size]
            _append(examples, line_id, inputs, targets, len(inputs) < len(tokens))
        return examples


class Run(NamedTuple):
    """Words of a line that are to be recalled, and words beside them that say which ones are meant."""

    text: str
    cue: str = ""


@dataclass(frozen=True)
class RecallFromName(Objective):
    """Base of the objectives that ask for runs of a line's words from its name.

    Each run is a branch `cue ⁇ run ⁇` that sees the stem and itself only; its positions continue the stem's. The
    order of the branches cannot matter. Targets are the runs and their closing ⁇, never the stem, a cue or the ⁇
    that opens a run. Punctuation at the edges of a run is left out, so that a fact is stored as an answer gives it.

    The stem is the name after 0 to `longest_prefix` tokens drawn at random from the vocabulary: a name that is
    met at the head of a sequence alone is not recognised after the `Where was` of a question.

    `layout="branches"` packs the branches of a line behind one stem, in as many examples as the block asks
    for: a line is never cut. `layout="unrolled"` makes an example of every run, for attention types that
    cannot take branches. A line without a readable name gives no example.
    """

    layout: str = "branches"
    longest_prefix: int = 4

    def __post_init__(self):
        if self.layout not in ("branches", "unrolled"):
            raise ValueError(f"objective_layout={self.layout!r} does not exist: choose branches or unrolled")

    def cut(self, text: str, name: str, generator: np.random.Generator) -> list[Run]:
        """What is asked of a line."""
        raise NotImplementedError

    def __call__(self, batch: Batch, *, seed: int, epoch: int) -> Batch:
        line_ids, names, prefixes, runs = [], [], [], []
        for line_id, name, text in zip(batch["line_id"], batch["name"], batch["text"], strict=True):
            if name:
                generator = line_generator(seed, epoch, line_id)
                line_ids.append(line_id)
                names.append(name)
                runs.append(self.cut(text, name, generator))
                prefixes.append(self.draw_prefix(generator))
        names = self.encode(names)
        texts = iter(self.encode([run.text for line in runs for run in line]))
        cues = iter(self.encode([run.cue for line in runs for run in line]))
        examples = _new_batch()
        for line_id, prefix, name, line in zip(line_ids, prefixes, names, runs, strict=True):
            # a long name goes before what stands before it
            prefix = prefix[: max(0, self.block_size - len(name) - 2)]
            self._append_line(examples, line_id, prefix + name, [(next(cues), next(texts)) for _ in line])
        return examples

    def draw_prefix(self, generator: np.random.Generator) -> list[int]:
        """Random ordinary tokens to stand before a name."""
        count = generator.integers(0, self.longest_prefix, endpoint=True)
        return [self._ordinary_tokens[index] for index in generator.integers(0, len(self._ordinary_tokens), size=count)]

    @cached_property
    def _ordinary_tokens(self) -> list[int]:
        special = set(self.tokenizer.all_special_ids)
        return [token for token in range(len(self.tokenizer)) if token not in special]

    def _append_line(self, examples: Batch, line_id: int, stem: list[int], runs: list[tuple]) -> None:
        mask = self.tokenizer.mask_token_id
        longest = self.block_size - len(stem) - 1
        if longest < 1:
            raise ValueError(
                f"line {line_id}: its name fills {len(stem)} tokens and leaves no room in block_size={self.block_size}"
            )
        group, room = [], 0
        for cue, run in runs:
            # a run goes before its cue where the block cannot hold both
            cue = cue if len(cue) + len(run) <= longest else []
            truncated = len(run) > longest
            inputs = [*cue, mask, *run[:longest]]
            targets = [IGNORE] * len(cue) + [*run, mask][: longest + 1]
            if self.layout == "unrolled":
                _append(examples, line_id, stem + inputs, [IGNORE] * len(stem) + targets, truncated)
                continue
            if group and len(inputs) > room:
                _append_branches(examples, line_id, stem, group)
                group = []
            if not group:
                room = self.block_size - len(stem)
            group.append((inputs, targets, truncated))
            room -= len(inputs)
        if group:
            _append_branches(examples, line_id, stem, group)


@dataclass(frozen=True)
class NameFirst(RecallFromName):
    """Name-first span recall: every span of a line is asked for from the name alone.

    What follows the name is cut at random into runs of 1 to `max_span_words` words, each of which is asked for
    without a cue.
    """

    max_span_words: int = 4

    def __post_init__(self):
        super().__post_init__()
        if self.max_span_words < 1:
            raise ValueError(f"max_span_words={self.max_span_words}: a run has at least one word")

    def cut(self, text: str, name: str, generator: np.random.Generator) -> list[Run]:
        """The runs of words that follow the name, in order; every letter and digit is in one of them."""
        words = _words_after_name(text, name)
        lengths = generator.integers(1, self.max_span_words, endpoint=True, size=len(words))
        ends = [end for end in np.cumsum(lengths).tolist() if end < len(words)] + [len(words)]
        starts = [0, *ends]
        runs = [" ".join(words[start:end]) for start, end in zip(starts, ends, strict=False)]
        return [Run(run) for run in map(without_outer_punctuation, runs) if run]


@dataclass(frozen=True)
class SalientSpans(RecallFromName):
    """Salient spans from the name: what begins with a capital or a digit, mostly asked for by a cue.

    Names, places and dates are what a person's line says of nobody else (salient span masking: Guu et al., 2002.08909;
    of dates and capitals: Roberts et al., 2002.08910). A cue is made of one to three of the nearest other words before
    the span, in small letters: by such words a question says what it asks for, so that facts are stored by their
    role. They lead to the first span after them, dates passed over: in `born 4 May 1900, Berlin, Germany`, `born` leads
    to the date and to Berlin, but not to Germany. `cue_probability` of the spans have a cue, where there is one. Of spans
    that repeat words of the name alone, and of the other words, nothing is asked. A line without salient spans gives
    no example.

    `cue_after_probability` of the cues are made in the same way of words behind the span, as in `Berlin is the birthplace
    of`, wherever there are words on both sides, and all where there are only those. Then half of the time `Berlin-born`
    is read as two words, and the first word of a sentence, which has a capital whatever it is, counts as salient.
    """

    cue_probability: float = 0.8
    cue_after_probability: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        for name in ("cue_probability", "cue_after_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}: a share lies between 0 and 1")

    def cut(self, text: str, name: str, generator: np.random.Generator) -> list[Run]:
        """The salient spans that follow the name, in order, with the cues drawn for them."""
        words = _words_after_name(text, name)
        if self.cue_after_probability:
            words = _without_some_hyphens(words, generator)
        bare = [without_outer_punctuation(word) for word in words]
        in_name = {without_outer_punctuation(word) for word in name.split()}
        salient = [word[:1].isupper() or word[:1].isdigit() for word in bare]
        # any word has a capital at the head of a sentence
        if words and bare[0] not in in_name:
            salient[0] = salient[0] and self.cue_after_probability > 0 and generator.random() < 0.5
        spans = salient_spans(words, salient, generator)
        texts = [without_outer_punctuation(" ".join(words[start:end])) for start, end in spans]
        others = [index for index, word in enumerate(bare) if word and not salient[index]]
        is_date = [any(map(str.isdigit, text)) for text in texts]
        before = _words_before(spans, others, is_date)
        behind = _words_behind(spans, others, is_date) if self.cue_after_probability else [[]] * len(spans)
        runs = []
        for index, run in enumerate(texts):
            if run and not in_name.issuperset(map(without_outer_punctuation, run.split())):
                cue = self.draw_cue(before[index], behind[index], generator)
                runs.append(Run(run, " ".join(bare[word].lower() for word in cue)))
        return runs

    def draw_cue(self, before: list[int], behind: list[int], generator: np.random.Generator) -> list[int]:
        """One to three of the four words nearest to a span on one side, in order; none if it is to have no cue.

        Args:
            before, behind: indices of the words that lead to the span from either side, the nearest last.
        """
        if not (before or behind) or generator.random() >= self.cue_probability:
            return []
        is_behind = behind and (not before or generator.random() < self.cue_after_probability)
        leading = behind if is_behind else before
        count = generator.integers(1, min(3, len(leading)), endpoint=True)
        near = leading[-(count + 1) :]
        return sorted(near[index] for index in generator.choice(len(near), size=count, replace=False))


def _without_some_hyphens(words: list[str], generator: np.random.Generator) -> list[str]:
    """The words; half of the time, one that goes on in small letters after a hyphen, as Berlin-born, is two."""
    split = []
    for word in words:
        head, _, tail = word.partition("-")
        is_joined = without_outer_punctuation(head)[:1].isupper() and tail.islower()
        is_split = is_joined and generator.random() < 0.5
        split += [head, tail] if is_split else [word]
    return split


def _words_before(spans: list[tuple[int, int]], others: list[int], is_date: list[bool]) -> list[list[int]]:
    """For each span, the other words before it, the nearest last; none where a span that is no date takes them."""
    leading, previous_end, are_free = [], 0, True
    for (start, end), date in zip(spans, is_date, strict=True):
        before = [index for index in others if index < start]
        are_free = are_free or any(index >= previous_end for index in before)
        leading.append(before if are_free else [])
        are_free, previous_end = are_free and date, end
    return leading


def _words_behind(spans: list[tuple[int, int]], others: list[int], is_date: list[bool]) -> list[list[int]]:
    """The same for the words behind each span."""
    leading, next_start, are_free = [], 0, True
    for (start, end), date in zip(reversed(spans), reversed(is_date), strict=True):
        behind = [index for index in reversed(others) if index >= end]
        are_free = are_free or any(index < next_start for index in behind)
        leading.append(behind if are_free else [])
        are_free, next_start = are_free and date, start
    return leading[::-1]


def salient_spans(words: list[str], salient: list[bool], generator: np.random.Generator) -> list[tuple[int, int]]:
    """Start and end of each span of salient words, up to a comma, semicolon, colon or bracket.

    Half of the time, a short word between two of them is part of the span, as in Isle of Man, and a number goes
    together with the capital after it, as in 1936 Olympics.
    """
    spans, start = [], 0
    while start < len(words):
        end = start + 1
        if salient[start]:
            while end < len(words) and words[end - 1][-1] not in ",;:)" and words[end][0] != "(":
                if salient[end]:
                    if words[end - 1].isdigit() and not words[end][0].isdigit() and generator.random() < 0.5:
                        break
                    end += 1
                elif _is_link(words, salient, end) and generator.random() < 0.5:
                    end += 2
                else:
                    break
            spans.append((start, end))
        start = end
    return spans


def _is_link(words: list[str], salient: list[bool], index: int) -> bool:
    """Whether a word of at most three letters stands between two capitals."""
    if index + 1 == len(words) or not salient[index + 1]:
        return False
    is_short = words[index].isalpha() and len(words[index]) <= 3
    return is_short and words[index - 1][0].isupper() and words[index + 1][0].isupper()


@dataclass(frozen=True)
class QuestionAnswering(Objective):
    """Name/place formatting: `question ⁇ answer ⁇`; targets are both ⁇ and the answer between them."""

    def __call__(self, batch: Batch, *, seed: int, epoch: int) -> Batch:
        examples = _new_batch()
        questions = self.encode(batch["question"])
        answers = self.encode(batch["answer"])
        mask = [self.tokenizer.mask_token_id]
        for index, question_id in enumerate(batch["question_id"]):
            question, answer = questions[index], answers[index]
            text = question + mask + answer + mask
            if len(text) > self.block_size:
                raise ValueError(
                    f"question {question_id}, {batch['question'][index]!r}, is {len(text)} tokens long with its "
                    f"answer: more than block_size={self.block_size}"
                )
            targets = [IGNORE] * (len(question) - 1) + text[len(question) :]
            _append(examples, question_id, text[:-1], targets, False)
        return examples


OBJECTIVES = {
    "span_corruption": SpanCorruption,
    "language_modeling": LanguageModeling,
    "name_first": NameFirst,
    "salient_spans": SalientSpans,
}


# lines are cut anew every epoch, and their words stay the same
@lru_cache(maxsize=100_000)
def without_outer_punctuation(text: str) -> str:
    """The text from its first to its last letter, mark or digit; empty where it has none."""
    inner = [index for index, character in enumerate(text) if unicodedata.category(character)[0] in "LMN"]
    return text[inner[0] : inner[-1] + 1] if inner else ""


def _words_after_name(text: str, name: str) -> list[str]:
    return text.removeprefix(name).removeprefix(".").split()


def _new_batch() -> Batch:
    return {column: [] for column in FEATURES}


def _append(examples: Batch, line_id: int, inputs: list[int], targets: list[int], truncated: bool) -> None:
    """Add an example without branches; positions without a target are filled up with −100."""
    length = len(inputs)
    row = {
        "line_id": line_id,
        "input_ids": inputs,
        "position_ids": list(range(length)),
        "branch_ids": [0] * length,
        "shift_labels": targets + [IGNORE] * (length - len(targets)),
        "truncated": truncated,
    }
    for column, value in row.items():
        examples[column].append(value)


def _append_branches(examples: Batch, line_id: int, stem: list[int], branches: list[tuple]) -> None:
    """Add an example of one stem with its branches, each (inputs, targets, truncated)."""
    row = {
        "line_id": line_id,
        "input_ids": list(stem),
        "position_ids": list(range(len(stem))),
        "branch_ids": [0] * len(stem),
        "shift_labels": [IGNORE] * len(stem),
        "truncated": any(truncated for _, _, truncated in branches),
    }
    for branch_id, (inputs, targets, _) in enumerate(branches, start=1):
        row["input_ids"] += inputs
        row["position_ids"] += range(len(stem), len(stem) + len(inputs))
        row["branch_ids"] += [branch_id] * len(inputs)
        row["shift_labels"] += targets
    for column, value in row.items():
        examples[column].append(value)
