"""Span corruption, the objective of the CS224N assignment."""

from dataclasses import dataclass

import numpy as np

from birthgpt.data.objectives.base import Batch, Objective, append_example, line_generator, new_batch
from birthgpt.settings import checked, setting


@checked
@dataclass
class SpanCorruption(Objective):
    """`prefix ⁇ suffix ⁇ masked ␃`, then pads up to the block.

    A line is truncated to a random length in [4, 7/8 of the block] and cut into prefix, masked span (of random length,
    a quarter of the line on average) and suffix. Every token except the pads is a target. Without `truncate_lines`,
    only the part that does not fit into the block is cut off. For an encoder–decoder, as in T5 (1910.10683), the
    encoder reads `prefix ⁇ suffix`, and only `masked ␃` is a target.
    """

    output_mask = 2

    truncate_lines: bool = setting(True, "span_corruption: cut lines to a random length, as the assignment does")

    def validate_block_size(self):
        """The block has room for the shortest random length."""
        if self.block_size < 24:
            raise ValueError(f"block_size={self.block_size}: span corruption needs at least 24 tokens")

    def __call__(self, batch: Batch, *, seed: int, epoch: int) -> Batch:
        examples = new_batch()
        for line_id, tokens in zip(batch["line_id"], self.encode(batch["text"]), strict=True):
            prefix, masked, suffix = self.cut(tokens, line_generator(seed, epoch, line_id))
            mask, end = [self.tokenizer.mask_token_id], [self.tokenizer.eos_token_id]
            text = prefix + mask + suffix + mask + masked + end
            pads = [self.tokenizer.pad_token_id] * (self.block_size - len(text))
            truncated = len(prefix) + len(masked) + len(suffix) < len(tokens)
            append_example(examples, line_id, text + pads, text[1:], truncated)
        return examples

    def cut(self, tokens: list[int], generator: np.random.Generator) -> tuple[list[int], list[int], list[int]]:
        """Prefix, masked span and suffix of the truncated line."""
        drawn = int(generator.integers(4, self.block_size * 7 // 8, endpoint=True))
        # the block also contains ⁇, ⁇ and ␃
        tokens = tokens[: drawn if self.truncate_lines else self.block_size - 3]
        longest_mask = max(1, round(len(tokens) / 2 - 1))
        mask_length = int(generator.integers(1, longest_mask, endpoint=True))
        start = int(generator.integers(0, max(0, len(tokens) - mask_length), endpoint=True))
        return tokens[:start], tokens[start : start + mask_length], tokens[start + mask_length :]
