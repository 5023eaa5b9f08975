"""Questions with their answers, for finetuning."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

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


@checked
@dataclass
class QuestionAnswering(UnknownAnswers, Objective):
    """`question ⁇ answer ␃`; the targets are ⁇, the answer and ␃.

    With `question_word_dropout`, words of a question are left out at random, in each epoch others, but never words of
    its name. So no single word, and no sequence of words, is all that tells what is asked (word dropout: Iyyer et al.,
    2015, P15-1162). A question without a known name stays whole.

    With `unknown_question_ratio`, some questions are asked twice more: about an invented name, with the answer ␀, and
    about a name that is drawn from the corpus, where every token but ␀ is right. The second needs no answer. Without it
    a model would learn that only those names are known whose questions are trained on. Questions that do not contain
    their name, or do not fit into the block with another one, are asked once.

    For an encoder–decoder, the encoder reads the question, and the targets are the answer and ␃.
    """

    question_word_dropout: Number = setting(
        0.0, "probability that a word of a train question is left out, other than those of its name", min=0, below=1
    )
    unknown_question_ratio: Number = setting(
        0.0, "probability that a question is also asked about an invented name, and about a drawn name of the corpus",
        min=0, max=1,
    )  # fmt: skip

    def __call__(self, batch: Batch, *, seed: int, epoch: int) -> Batch:
        examples = new_batch()
        answers = self.encode(batch["answer"])
        mask, end = [self.tokenizer.mask_token_id], [self.tokenizer.eos_token_id]
        names = batch.get("name", [""] * len(answers))
        rows = list(zip(batch["question_id"], batch["question"], names, strict=True))
        asked = [self._questions(question, name, seed, epoch, question_id) for question_id, question, name in rows]
        encoded = iter(self.encode([question for of_row in asked for question in of_row]))
        for (question_id, *_), (shown, *others), answer in zip(rows, asked, answers, strict=True):
            question = next(encoded)
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

    def _append(self, examples: Batch, question_id: int, question: list[int], targets: list[int]) -> None:
        """Add `question` with these targets, of which the last is no input."""
        labels = [IGNORE] * (len(question) - 1) + targets
        append_example(examples, question_id, question + targets[:-1], labels, False)

    def _questions(self, question: str, name: str, *seeds: int) -> list[str]:
        """The question; if it is drawn, also about an invented name and about a name of the corpus.

        Args:
            seeds: seed, epoch, and the number of the question.
        """
        generator = line_generator(*seeds)
        relation = relation_in_words(question, name) if name else ""
        if "{name}" not in relation:
            return [question]
        asked = [self.leave_out_words(relation, generator).replace("{name}", name)]
        # a question may have other spaces or spellings than its relation
        asked = asked if self.question_word_dropout else [question]
        others = self.draw_other_names(*seeds)
        return asked + [self.leave_out_words(relation, generator).replace("{name}", other) for other in others]

    def draw_other_names(self, *seeds: int) -> list[str]:
        """An invented name and a name of the corpus, or nothing if the question is not asked again."""
        invented = self.draw_unknown_name(self.unknown_question_ratio, *seeds)
        return [] if invented is None else [invented, self.draw_read_name(*seeds)]

    def _targets_of_others(self) -> tuple[list[int], list[int]]:
        """The targets of a question about an invented name, and about a name of the corpus."""
        mask = self.tokenizer.mask_token_id
        unknown = unknown_answer_id(self.tokenizer)
        assert unknown is not None, "the token is added before the objective is built"
        return [mask, unknown, self.tokenizer.eos_token_id], [mask, NOT_UNKNOWN]

    def leave_out_words(self, relation: str, generator: np.random.Generator) -> str:
        """A question with `{name}` in place of its name, without the words that are drawn to be left out."""
        if not self.question_word_dropout:
            return relation
        words = relation.split()
        left_out = generator.random(len(words)) < self.question_word_dropout
        return " ".join(word for word, out in zip(words, left_out, strict=True) if "{name}" in word or not out)


# the same questions are asked in every epoch
relation_in_words = lru_cache(maxsize=100_000)(relation_of)
