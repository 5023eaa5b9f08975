"""Questions with their answers, for finetuning."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from birthgpt.data.names import relation_of
from birthgpt.data.objectives.base import (
    IGNORE,
    NOT_UNKNOWN,
    Batch,
    Objective,
    append_example,
    line_generator,
    new_batch,
)
from birthgpt.data.objectives.unknown_answers import UnknownAnswers
from birthgpt.data.tokenizers import unknown_answer_id
from birthgpt.settings import Number, checked, setting

END_MARKS = "?？!."
"""Marks that end a question."""


@checked
@dataclass
class QuestionAnswering(UnknownAnswers, Objective):
    """`question ⁇ answer ␃`; the targets are ⁇, the answer and ␃.

    With `question_word_dropout`, words of a question are left out at random, in each epoch others, but never words of
    its name (word dropout: Iyyer et al., 2015, P15-1162). A word such as `Where`, which the questions of many relations
    have, says little about what is asked, and is left out more often: its probability is `question_word_dropout` times
    the fraction of the relations whose questions have it.

    With `question_word_shuffle`, the words of a question, its name among them, are in a random order, so that a
    question is understood by its words, not by the place of each (compare the random swaps of Wei & Zou, 2019,
    D19-1670). A question without a known name stays as it is.

    With `unknown_question_ratio`, some questions are asked twice more: about an invented name, with the answer ␀, and
    about a name that is drawn from the corpus, where every token but ␀ is right. The second needs no answer. Without it
    a model would learn that only those names are known whose questions are trained on. Questions that do not contain
    their name, or do not fit into the block with another one, are asked once.

    For an encoder–decoder, the encoder reads the question, and the targets are the answer and ␃.
    """

    question_word_dropout: Number = setting(
        0.0,
        "probability that a word that train questions of every relation have is left out; less for words of fewer "
        "relations, and 0 for those of the name",
        min=0,
        below=1,
    )
    question_word_shuffle: Number = setting(
        0.0, "probability that the words of a train question, with its name as one word, are in a random order",
        min=0, max=1,
    )  # fmt: skip
    unknown_question_ratio: Number = setting(
        0.0, "probability that a question is also asked about an invented name, and about a drawn name of the corpus",
        min=0, max=1,
    )  # fmt: skip
    word_frequencies: dict[str, float] = field(default_factory=dict)

    def read_questions(self, questions: Iterable[Mapping[str, Any]]) -> None:
        """Count in the questions of how many relations each word is, if words are left out."""
        if self.question_word_dropout:
            self.word_frequencies = count_relation_frequencies(questions)

    def __call__(self, batch: Batch, *, seed: int, epoch: int) -> Batch:
        examples = new_batch()
        names = batch.get("name", [""] * len(batch["question"]))
        asked = [
            self.vary_words(question, name, line_generator(seed, epoch, question_id))
            for question, name, question_id in zip(batch["question"], names, batch["question_id"], strict=True)
        ]
        questions, answers = self.encode(asked), self.encode(batch["answer"])
        mask, end = [self.tokenizer.mask_token_id], [self.tokenizer.eos_token_id]
        for index, question_id in enumerate(batch["question_id"]):
            question, answer = questions[index], answers[index]
            length = len(question) + len(answer) + 2
            if length > self.block_size:
                raise ValueError(
                    f"question {question_id}, {batch['question'][index]!r}, is {length} tokens long with its answer: "
                    f"more than block_size={self.block_size}"
                )
            self._append(examples, question_id, question, mask + answer + end)
            if not names[index]:
                continue
            for other, targets in self._asked_again(batch["question"][index], names[index], seed, epoch, question_id):
                (tokens,) = self.encode([other])
                if len(tokens) + len(targets) <= self.block_size:
                    self._append(examples, question_id, tokens, targets)
        return examples

    def vary_words(self, question: str, name: str, generator: np.random.Generator) -> str:
        """The question without the words that are drawn to be left out, or in another order.

        It is unchanged if it does not contain the name.
        """
        varies = self.question_word_dropout or self.question_word_shuffle
        relation = relation_in_words(question, name) if varies and name else ""
        if "{name}" not in relation:
            return question
        words = relation.split()
        frequencies = np.array([self.word_frequencies.get(bare_word(word), 1.0) for word in words])
        left_out = generator.random(len(words)) < self.question_word_dropout * frequencies
        kept = [word for word, out in zip(words, left_out, strict=True) if "{name}" in word or not out]
        if self.question_word_shuffle and generator.random() < self.question_word_shuffle:
            kept = in_random_order(kept, generator)
        return " ".join(kept).replace("{name}", name)

    def _append(self, examples: Batch, question_id: int, question: list[int], targets: list[int]) -> None:
        """Add `question` with these targets, of which the last is no input."""
        labels = [IGNORE] * (len(question) - 1) + targets
        append_example(examples, question_id, question + targets[:-1], labels, False)

    def _asked_again(
        self, question: str, name: str, seed: int, epoch: int, question_id: int
    ) -> Iterator[tuple[str, list[int]]]:
        """The question about an invented name and about a name of the corpus, if it is drawn, with their targets."""
        invented = self.draw_unknown_name(self.unknown_question_ratio, seed, epoch, question_id)
        if invented is None or "{name}" not in (relation := relation_in_words(question, name)):
            return
        mask = self.tokenizer.mask_token_id
        unknown = [mask, unknown_answer_id(self.tokenizer), self.tokenizer.eos_token_id]
        known = self.draw_read_name(seed, epoch, question_id)
        # both vary in the same way, so that only the name tells which is unknown
        for other, targets in ((invented, unknown), (known, [mask, NOT_UNKNOWN])):
            generator = np.random.default_rng((seed, epoch, question_id, 2))
            yield self.vary_words(relation.replace("{name}", other), other, generator), targets


def count_relation_frequencies(questions: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """In the questions of which fraction of the relations each word is; a wording without a relation is its own."""
    relations = relations_of_words(find_wordings(questions))
    count = len(set().union(*relations.values()))
    return {word: len(found) / count for word, found in relations.items()}


def find_shared_words(questions: Iterable[Mapping[str, Any]]) -> list[str]:
    """The words that questions of several relations have, such as `which` and `place`, once for each wording."""
    wordings = find_wordings(questions)
    relations = relations_of_words(wordings)
    words = [word.rstrip(END_MARKS) for wording, _ in wordings for word in wording.split()]
    return [word for word in words if word and "{name}" not in word and len(relations[bare_word(word)]) > 1]


def find_wordings(questions: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The wordings of the questions with `{name}`, and the relation of each: the wording, if none is given."""
    wordings = {(relation_in_words(row["question"], row["name"]), row.get("relation") or "") for row in questions}
    return [(wording, relation or wording) for wording, relation in sorted(wordings)]


def relations_of_words(wordings: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """The relations whose questions have each word."""
    relations: dict[str, set[str]] = {}
    for wording, relation in wordings:
        for word in wording.split():
            relations.setdefault(bare_word(word), set()).add(relation)
    return relations


def bare_word(word: str) -> str:
    """The word in lower case, without the mark that ends a question."""
    return word.rstrip(END_MARKS).lower()


def in_random_order(words: list[str], generator: np.random.Generator) -> list[str]:
    """The words in a random order; the mark that ends a question is still at its end."""
    bare = [*words[:-1], words[-1].rstrip(END_MARKS)]
    mark = words[-1][len(bare[-1]) :]
    shuffled = [bare[index] for index in generator.permutation(len(bare)) if bare[index]]
    return [*shuffled[:-1], shuffled[-1] + mark]


# the same questions are asked in every epoch
relation_in_words = lru_cache(maxsize=100_000)(relation_of)
