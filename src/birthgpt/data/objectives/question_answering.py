"""Questions with their answers, for finetuning."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from birthgpt.data.names import relation_of
from birthgpt.data.objectives.base import IGNORE, Batch, Objective, append_example, line_generator, new_batch
from birthgpt.data.objectives.unknown_answers import UnknownAnswers
from birthgpt.data.tokenizers import UNKNOWN_ANSWER_TOKEN
from birthgpt.settings import Number, checked, setting


@checked
@dataclass
class QuestionAnswering(UnknownAnswers, Objective):
    """`question ⁇ answer ␃`; the targets are ⁇, the answer and ␃.

    With `question_word_dropout`, words of a question are left out at random, in each epoch others, but never words of
    its name. So no single word, and no sequence of words, is all that tells what is asked (word dropout: Iyyer et al.,
    2015, P15-1162). A question without a known name stays whole.

    With `unknown_name_ratio`, some questions are also asked about an invented name, with the answer ␀: questions that
    contain their name, if their tokens fit into the block.

    For an encoder–decoder, the encoder reads the question, and the targets are the answer and ␃.
    """

    question_word_dropout: Number = setting(
        0.0, "probability that a word of a train question is left out, other than those of its name", min=0, below=1
    )

    def __call__(self, batch: Batch, *, seed: int, epoch: int) -> Batch:
        examples = new_batch()
        asked = list(self._questions(batch, seed, epoch))
        questions = self.encode([question for _, question, _ in asked])
        answers = self.encode([answer for _, _, answer in asked])
        mask, end = [self.tokenizer.mask_token_id], [self.tokenizer.eos_token_id]
        for (question_id, text_of_question, text_of_answer), question, answer in zip(
            asked, questions, answers, strict=True
        ):
            text = question + mask + answer + end
            if len(text) > self.block_size:
                if text_of_answer == UNKNOWN_ANSWER_TOKEN:
                    continue
                raise ValueError(
                    f"question {question_id}, {text_of_question!r}, is {len(text)} tokens long with its "
                    f"answer: more than block_size={self.block_size}"
                )
            targets = [IGNORE] * (len(question) - 1) + text[len(question) :]
            append_example(examples, question_id, text[:-1], targets, False)
        return examples

    def _questions(self, batch: Batch, seed: int, epoch: int) -> Iterator[tuple[int, str, str]]:
        """The number, the question and the answer of each example."""
        names = batch.get("name", [""] * len(batch["question"]))
        for question_id, question, answer, name in zip(
            batch["question_id"], batch["question"], batch["answer"], names, strict=True
        ):
            generator = line_generator(seed, epoch, question_id)
            relation = relation_in_words(question, name) if name else ""
            if "{name}" not in relation:
                yield question_id, question, answer
                continue
            shown = self.leave_out_words(relation, generator).replace("{name}", name)
            yield question_id, shown if self.question_word_dropout else question, answer
            invented = self.draw_unknown_name(seed, epoch, question_id)
            if invented is not None:
                shown = self.leave_out_words(relation, generator).replace("{name}", invented)
                yield question_id, shown, UNKNOWN_ANSWER_TOKEN

    def leave_out_words(self, relation: str, generator: np.random.Generator) -> str:
        """A question with `{name}` in place of its name, without the words that are drawn to be left out."""
        if not self.question_word_dropout:
            return relation
        words = relation.split()
        left_out = generator.random(len(words)) < self.question_word_dropout
        return " ".join(word for word, out in zip(words, left_out, strict=True) if "{name}" in word or not out)


# the same questions are asked in every epoch
relation_in_words = lru_cache(maxsize=100_000)(relation_of)
