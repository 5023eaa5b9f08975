"""The order of lines in bounded memory: all orders are equally likely, no line is lost, any part can be computed."""

import random

import pytest
from builders import read_lines

from birthgpt.data.synthetic.shuffle import MAX_SHUFFLED, PermutedOrder, ShuffledOrder, line_order, write_shuffled


# one block, some blocks, and the maximum
@pytest.mark.parametrize("block_lines", [50_000, 37, 1])
def test_lines_are_shuffled_and_none_is_lost(block_lines, tmp_path):
    lines = [f"line {number}" for number in range(600)]
    write_shuffled(tmp_path / "shuffled.txt", iter(lines), len(lines), random.Random(0), block_lines)
    shuffled = read_lines(tmp_path / "shuffled.txt")
    assert sorted(shuffled) == sorted(lines)
    # the mean distance of two random positions is a third of the length
    position_of = {line: position for position, line in enumerate(shuffled)}
    moved = sum(abs(position_of[line] - position) for position, line in enumerate(lines)) / len(lines)
    assert moved == pytest.approx(len(lines) / 3, rel=0.15)
    assert [path.name for path in tmp_path.iterdir()] == ["shuffled.txt"]


@pytest.mark.parametrize(("count", "blocks"), [(600, 2), (601, 3), (100_000, 256)])
def test_a_block_has_the_given_number_of_lines_unless_there_are_too_many_blocks(count, blocks, tmp_path):
    most = 0

    def lines():
        nonlocal most
        for _ in range(3):
            most = max(most, len(list(tmp_path.iterdir())))
            yield "line"

    write_shuffled(tmp_path / "shuffled.txt", lines(), count, random.Random(0), block_lines=300)
    assert most == blocks


def numbers_of(order, start, stop):
    return [number for batch in order.batches(start, stop) for number in batch]


# one block; several, of which the largest has several batches; the maximum
@pytest.mark.parametrize(("count", "block_lines"), [(600, 50_000), (25_000, 12_000), (600, 1)])
@pytest.mark.parametrize("expected", [1, 2])
def test_the_computed_order_is_that_of_the_shuffled_file_from_any_position_on(count, block_lines, expected, tmp_path):
    lines = map(str, range(count))
    write_shuffled(tmp_path / "shuffled.txt", lines, expected * count, random.Random(4), block_lines)
    shuffled = [int(line) for line in read_lines(tmp_path / "shuffled.txt")]
    order = ShuffledOrder(count, expected * count, random.Random(4), block_lines)
    assert numbers_of(order, 0, count) == shuffled
    for start, stop in ((0, 1), (count // 3, count // 2), (count - 7, count)):
        assert numbers_of(order, start, stop) == shuffled[start:stop]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 17, 1000, 25_000])
def test_a_permuted_order_has_each_line_once_and_is_that_of_its_parts(count):
    order = PermutedOrder(count, random.Random(1))
    numbers = numbers_of(order, 0, count)
    assert sorted(numbers) == list(range(count))
    half = count // 2
    assert numbers_of(order, 0, half) + numbers_of(order, half, count) == numbers


def test_a_permuted_order_looks_random_and_depends_on_its_seed():
    count = 20_000
    one, other = (numbers_of(PermutedOrder(count, random.Random(seed)), 0, count) for seed in (1, 2))
    # two random permutations agree at one position on average; five standard deviations
    assert sum(a == b for a, b in zip(one, other, strict=True)) <= 6
    assert sum(a == position for position, a in enumerate(one)) <= 6
    assert sum(abs(a - b) == 1 for a, b in zip(one, one[1:], strict=False)) <= 10
    moved = sum(abs(number - position) for position, number in enumerate(one)) / count
    assert moved == pytest.approx(count / 3, rel=0.02)


def test_billions_of_lines_are_ordered_without_a_list_of_them():
    count = 5_000_000_000
    order = line_order(count, count, "0-lines")
    numbers = numbers_of(order, count - 3000, count)
    assert len(set(numbers)) == 3000 and 0 <= min(numbers) and max(numbers) < count
    # a mean of uniform numbers, within five standard deviations
    assert sum(numbers) / 3000 == pytest.approx(count / 2, abs=5 * count / (12 * 3000) ** 0.5)


def test_the_order_of_few_lines_stays_that_of_the_shuffled_file():
    assert isinstance(line_order(100, MAX_SHUFFLED, "0-lines"), ShuffledOrder)
    assert isinstance(line_order(100, MAX_SHUFFLED + 1, "0-lines"), PermutedOrder)
