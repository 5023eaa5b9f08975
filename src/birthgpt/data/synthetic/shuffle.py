"""Shuffling more lines than fit into memory."""

import random
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

# lines per shard, unless there would be too many shards; one shard at a time is shuffled in memory
SHARD_LINES = 50_000
# all shards are open at the same time
MAX_SHARDS = 256


def write_shuffled(
    path: Path, lines: Iterable[str], count: int, rng: random.Random, shard_lines: int = SHARD_LINES
) -> None:
    """Write `count` lines to `path` in a uniformly random order, in bounded memory.

    Each line is written to a random shard, which is a temporary file next to `path`. Then each shard is shuffled in
    memory and appended. A shard has about `shard_lines` lines, or 1/256 of all lines if that is more.

    Source: C. R. Rao, "Generation of random permutations of given number of elements using random sampling
    numbers", Sankhya A 23 (1961).
    """
    shards = [path.with_suffix(f".{shard}") for shard in range(min(MAX_SHARDS, -(-count // shard_lines)))]
    with ExitStack() as stack:
        files = [stack.enter_context(open(shard, "w", encoding="utf-8", newline="\n")) for shard in shards]
        for line in lines:
            rng.choice(files).write(f"{line}\n")
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for shard in shards:
            in_shard = shard.read_text(encoding="utf-8").splitlines(keepends=True)
            rng.shuffle(in_shard)
            file.writelines(in_shard)
            shard.unlink()
