"""Questions with their answers, for finetuning."""

from dataclasses import dataclass

from birthgpt.data.objectives.base import IGNORE, Batch, Objective, append_example, new_batch
from birthgpt.settings import checked


@checked
@dataclass
class QuestionAnswering(Objective):
    """`question ⁇ answer ␃`; the targets are ⁇, the answer and ␃.

    For an encoder–decoder, the encoder reads the question, and the targets are the answer and ␃.
    """

    def __call__(self, batch: Batch, *, seed: int, epoch: int) -> Batch:
        examples = new_batch()
        questions = self.encode(batch["question"])
        answers = self.encode(batch["answer"])
        mask, end = [self.tokenizer.mask_token_id], [self.tokenizer.eos_token_id]
        for index, question_id in enumerate(batch["question_id"]):
            question, answer = questions[index], answers[index]
            text = question + mask + answer + end
            if len(text) > self.block_size:
                raise ValueError(
                    f"question {question_id}, {batch['question'][index]!r}, is {len(text)} tokens long with its "
                    f"answer: more than block_size={self.block_size}"
                )
            targets = [IGNORE] * (len(question) - 1) + text[len(question) :]
            append_example(examples, question_id, text[:-1], targets, False)
        return examples
