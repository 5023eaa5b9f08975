"""The order of lines: shuffled through temporary files, or computed from their numbers.

Up to `MAX_SHUFFLED` lines are shuffled (`write_shuffled`, and `ShuffledOrder`, which computes the same order). More
lines are in the order of a pseudo-random permutation (`PermutedOrder`), of which nothing has to be kept. An order is
computed from any position on, so each process writes its own part of the lines.
"""

import random
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np

# lines per block, unless there would be too many blocks; one block at a time is shuffled in memory
BLOCK_LINES = 50_000
# all blocks are open at the same time
MAX_BLOCKS = 256

MAX_SHUFFLED = BLOCK_LINES * MAX_BLOCKS
"""So many lines, 12.8 million, are shuffled with `BLOCK_LINES` of them in memory."""

BATCH_LINES = 10_000
"""So many successive lines are computed at a time."""

_ROUNDS = 6


def write_shuffled(
    path: Path, lines: Iterable[str], count: int, rng: random.Random, block_lines: int = BLOCK_LINES
) -> None:
    """Write `count` lines to `path` in a uniformly random order, in bounded memory.

    Each line is written to a random block, which is a temporary file next to `path`. Then each block is shuffled in
    memory and appended. A block has about `block_lines` lines, or 1/256 of all lines if that is more.

    Source: C. R. Rao, "Generation of random permutations of given number of elements using random sampling
    numbers", Sankhya A 23 (1961).
    """
    blocks = [path.with_suffix(f".{block}") for block in range(_number_of_blocks(count, block_lines))]
    with ExitStack() as stack:
        files = [stack.enter_context(open(block, "w", encoding="utf-8", newline="\n")) for block in blocks]
        for line in lines:
            rng.choice(files).write(f"{line}\n")
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for block in blocks:
            with open(block, encoding="utf-8", newline="\n") as written:
                in_block = list(written)
            rng.shuffle(in_block)
            file.writelines(in_block)
            block.unlink()


class ShuffledOrder:
    """The order of `write_shuffled` as numbers of lines.

    Args:
        count: the lines.
        expected: the `count` that `write_shuffled` is given, if there may be fewer lines.
        rng: as for `write_shuffled`.
        block_lines: likewise.
    """

    def __init__(self, count: int, expected: int, rng: random.Random, block_lines: int = BLOCK_LINES):
        self._rng = rng
        blocks = range(_number_of_blocks(expected, block_lines))
        self._block_of = np.fromiter((rng.choice(blocks) for _ in range(count)), np.uint8, count)  # (lines,)
        sizes = np.bincount(self._block_of, minlength=len(blocks)).tolist()
        self._ends = [0, *np.cumsum(sizes).tolist()]
        # what shuffling a block draws depends on the blocks before it
        self._states = []
        for size in sizes:
            self._states.append(rng.getstate())
            rng.shuffle([None] * size)

    def batches(self, start: int, stop: int) -> Iterator[list[int]]:
        """The numbers of the lines at the positions from `start` to before `stop`, in batches."""
        for block, (first, end) in enumerate(pairwise(self._ends)):
            if first < stop and start < end:
                numbers = np.flatnonzero(self._block_of == block).tolist()
                self._rng.setstate(self._states[block])
                self._rng.shuffle(numbers)
                for position in range(max(start, first), min(stop, end), BATCH_LINES):
                    yield numbers[position - first : min(position + BATCH_LINES, stop) - first]


class PermutedOrder:
    """A pseudo-random permutation of the numbers of any number of lines, by a Feistel network.

    The network permutes the smallest range of 4^k numbers that contains those of all lines. A number that is outside
    is permuted again, until it is inside.

    Source: M. Luby and C. Rackoff, "How to construct pseudorandom permutations from pseudorandom functions", SIAM J.
    Comput. 17 (1988); J. Black and P. Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002.
    """

    def __init__(self, count: int, rng: random.Random):
        self._count = count
        half = max(1, -(-(count - 1).bit_length() // 2))
        self._half, self._mask = np.uint64(half), np.uint64(2**half - 1)
        self._keys = [np.uint64(rng.getrandbits(64)) for _ in range(_ROUNDS)]

    def batches(self, start: int, stop: int) -> Iterator[list[int]]:
        """The numbers of the lines at the positions from `start` to before `stop`, in batches."""
        for first in range(start, stop, BATCH_LINES):
            numbers = self._permute(np.arange(first, min(first + BATCH_LINES, stop), dtype=np.uint64))
            while (outside := numbers >= self._count).any():
                numbers[outside] = self._permute(numbers[outside])
            yield numbers.tolist()

    def _permute(self, numbers: np.ndarray) -> np.ndarray:
        """Permute numbers below 4^k; (numbers,) → (numbers,)."""
        left, right = numbers >> self._half, numbers & self._mask
        for key in self._keys:
            left, right = right, left ^ (_mixed(right + key) & self._mask)
        return left << self._half | right


@lru_cache(maxsize=1)
def line_order(count: int, expected: int, seed: str) -> ShuffledOrder | PermutedOrder:
    """The order of `count` lines, of which at most `expected` were expected; the last one is kept for other shards."""
    rng = random.Random(seed)
    return PermutedOrder(count, rng) if expected > MAX_SHUFFLED else ShuffledOrder(count, expected, rng)


def _number_of_blocks(count: int, block_lines: int) -> int:
    return min(MAX_BLOCKS, -(-count // block_lines))


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """A hash of 64 bits, the last step of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014); products are modulo 2^64."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))
