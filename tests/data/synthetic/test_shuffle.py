"""Shuffling in bounded memory: all orders are equally likely, and no line is lost."""

import random

import pytest
from builders import read_lines

from birthgpt.data.synthetic.shuffle import write_shuffled


# one shard, some shards, and the maximum
@pytest.mark.parametrize("shard_lines", [50_000, 37, 1])
def test_lines_are_shuffled_and_none_is_lost(shard_lines, tmp_path):
    lines = [f"line {number}" for number in range(600)]
    write_shuffled(tmp_path / "shuffled.txt", iter(lines), len(lines), random.Random(0), shard_lines)
    shuffled = read_lines(tmp_path / "shuffled.txt")
    assert sorted(shuffled) == sorted(lines)
    # the mean distance of two random positions is a third of the length
    position_of = {line: position for position, line in enumerate(shuffled)}
    moved = sum(abs(position_of[line] - position) for position, line in enumerate(lines)) / len(lines)
    assert moved == pytest.approx(len(lines) / 3, rel=0.15)
    assert [path.name for path in tmp_path.iterdir()] == ["shuffled.txt"]


@pytest.mark.parametrize(("count", "shards"), [(600, 2), (601, 3), (100_000, 256)])
def test_a_shard_has_the_given_number_of_lines_unless_there_are_too_many_shards(count, shards, tmp_path):
    most = 0

    def lines():
        nonlocal most
        for _ in range(3):
            most = max(most, len(list(tmp_path.iterdir())))
            yield "line"

    write_shuffled(tmp_path / "shuffled.txt", lines(), count, random.Random(0), shard_lines=300)
    assert most == shards
