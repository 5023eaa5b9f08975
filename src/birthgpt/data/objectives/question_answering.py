"""Questions with their answers, for finetuning."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from birthgpt.data.names import relation_of
from birthgpt.data.objectives.base import IGNORE, NOT_UNKNOWN, Batch, Objective, append_example, new_batch
from birthgpt.data.objectives.unknown_answers import UnknownAnswers
from birthgpt.data.tokenizers import unknown_answer_id
from birthgpt.settings import Number, checked, setting


@checked
@dataclass
class QuestionAnswering(UnknownAnswers, Objective):
    """`question ⁇ answer ␃`; the targets are ⁇, the answer and ␃.

    With `unknown_question_ratio`, some questions are asked twice more: about an invented name, with the answer ␀, and
    about a name that is drawn from the corpus, where every token but ␀ is right. The second needs no answer. Without it
    a model would learn that only those names are known whose questions are trained on. Questions that do not contain
    their name, or do not fit into the block with another one, are asked once.
    """

    unknown_question_ratio: Number = setting(
        0.0, "probability that a question is also asked about an invented name, and about a drawn name of the corpus",
        min=0, max=1,
    )  # fmt: skip

    def __call__(self, batch: Batch, *, seed: int, epoch: int) -> Batch:
        examples = new_batch()
        questions, answers = self.encode(batch["question"]), self.encode(batch["answer"])
        mask, end = [self.tokenizer.mask_token_id], [self.tokenizer.eos_token_id]
        names = batch.get("name", [""] * len(questions))
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

    def _append(self, examples: Batch, question_id: int, question: list[int], targets: list[int]) -> None:
        """Add `question` with these targets, of which the last is no input."""
        labels = [IGNORE] * (len(question) - 1) + targets
        append_example(examples, question_id, question + targets[:-1], labels, False)

    def _asked_again(self, question: str, name: str, *seeds: int) -> Iterator[tuple[str, list[int]]]:
        """The question about an invented name and about a name of the corpus, if it is drawn, with their targets."""
        invented = self.draw_unknown_name(self.unknown_question_ratio, *seeds)
        if invented is None or "{name}" not in (relation := relation_in_words(question, name)):
            return
        mask = self.tokenizer.mask_token_id
        unknown = [mask, unknown_answer_id(self.tokenizer), self.tokenizer.eos_token_id]
        yield relation.replace("{name}", invented), unknown
        yield relation.replace("{name}", self.draw_read_name(*seeds)), [mask, NOT_UNKNOWN]


# the same questions are asked in every epoch
relation_in_words = lru_cache(maxsize=100_000)(relation_of)
