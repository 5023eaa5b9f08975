"""Plain language modelling."""

from dataclasses import dataclass

from birthgpt.data.objectives.base import Batch, Objective, append_example, new_batch
from birthgpt.settings import checked


@checked
@dataclass
class LanguageModeling(Objective):
    """`line ␃`; every token is a target. A line that is longer than the block is cut."""

    output_mask = 0

    def __call__(self, batch: Batch, *, seed: int, epoch: int) -> Batch:
        examples = new_batch()
        for line_id, tokens in zip(batch["line_id"], self.encode(batch["text"]), strict=True):
            text = [*tokens, self.tokenizer.eos_token_id]
            inputs, targets = text[:-1][: self.block_size], text[1:][: self.block_size]
            append_example(examples, line_id, inputs, targets, len(inputs) < len(tokens))
        return examples
