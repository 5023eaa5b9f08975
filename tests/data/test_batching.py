"""Batches: every example occurs once, there is little padding, and plans are reproducible."""

from collections import Counter

import numpy as np
import pyarrow
import pytest
import torch
from builders import LINES, NAMES
from datasets import Dataset
from torch.utils.data import DataLoader

from birthgpt.data.batching import (
    BatchSettings,
    EpochBatches,
    MixedBatches,
    arrays_of,
    fixed_batches,
    model_inputs,
    pad_batch,
    plan_batches,
)
from birthgpt.data.objectives import IGNORE, LanguageModeling, NameFirst, QuestionAnswering
from birthgpt.data.streaming import StreamedBatches

LENGTHS = np.random.default_rng(0).integers(3, 120, size=1000)


def corpus(copies: int = 8) -> Dataset:
    count = len(LINES) * copies
    return Dataset.from_dict({"line_id": list(range(count)), "text": LINES * copies, "name": NAMES * copies})


@pytest.mark.parametrize("count", [1, 2, 6])
@pytest.mark.parametrize("tokens_per_batch", [200, 4000])
def test_a_plan_contains_every_example_once_within_the_budget(count, tokens_per_batch):
    plan = plan_batches(LENGTHS, tokens_per_batch, count, np.random.default_rng(1))
    examples = np.concatenate([part for batch in plan for part in batch])
    assert sorted(examples) == list(range(1000))
    for batch in plan:
        assert len(batch) == count and all(len(part) for part in batch)
        whole = np.concatenate(batch)
        assert LENGTHS[whole].max() * len(whole) <= tokens_per_batch or len(whole) < 2 * count


def test_a_plan_wastes_little_on_padding():
    lengths = np.tile(LENGTHS, 3)
    plan = plan_batches(lengths, 4000, 1, np.random.default_rng(1))
    padded = sum(lengths[batch[0]].max() * len(batch[0]) for batch in plan)
    assert 1 - lengths.sum() / padded <= 0.05


def test_plans_differ_by_seed_and_are_shuffled():
    plans = [plan_batches(LENGTHS, 4000, 1, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    flat = [[part.tolist() for batch in plan for part in batch] for plan in plans]
    assert flat[0] == flat[1] != flat[2]
    longest = [LENGTHS[batch[0]].max() for batch in plans[0]]
    assert longest != sorted(longest) and longest != sorted(longest, reverse=True)


@pytest.mark.parametrize("count", [3, 4, 5, 7])
def test_few_examples_are_spread_over_all_micro_batches(count):
    for plan in (
        plan_batches(np.full(count, 10), 20, 3, np.random.default_rng(0)),
        fixed_batches(count, 1, 3, None),
    ):
        assert sorted(np.concatenate([part for batch in plan for part in batch])) == list(range(count))
        assert all(len(part) for batch in plan for part in batch)


def test_too_few_examples_for_the_processes_have_no_batch():
    assert plan_batches(np.full(2, 10), 20, 3, np.random.default_rng(0)) == fixed_batches(2, 1, 3) == []


def test_fixed_batches_keep_the_order_unless_shuffled():
    assert [part.tolist() for batch in fixed_batches(5, 2, 1) for part in batch] == [[0, 1], [2, 3], [4]]
    shuffled = fixed_batches(5, 2, 1, np.random.default_rng(0))
    order = [row for batch in shuffled for part in batch for row in part.tolist()]
    assert sorted(order) == list(range(5)) != order


@pytest.mark.parametrize("rows", [[], [[]], [[1, 2], [], [3]]])
def test_the_rows_of_a_column_are_arrays_also_of_a_part_of_it(rows):
    column = pyarrow.array([[7, 7], *rows], pyarrow.list_(pyarrow.int32()))[1:]
    assert [row.tolist() for row in arrays_of(column)] == rows


def test_padding_is_marked_and_cut_to_the_longest_target(characters):
    long, short = [5, 6, 7, 0, 0], [5, 6, 0, 0, 0]
    columns = {"position_ids": range(5), "branch_ids": [0] * 5}
    batch = pad_batch(
        [
            columns | {"line_id": 4, "input_ids": long, "shift_labels": [6, 7] + [IGNORE] * 3},
            columns | {"line_id": 9, "input_ids": short, "shift_labels": [6] + [IGNORE] * 4},
        ],
        pad_token_id=0,
    )
    assert batch["input_ids"].tolist() == [[5, 6], [5, 0]]
    assert batch["shift_labels"].tolist() == [[6, 7], [6, IGNORE]]
    assert batch["line_ids"].tolist() == [4, 9]
    assert set(batch) == {"input_ids", "shift_labels", "line_ids"}
    assert set(model_inputs(batch)) == {"input_ids", "shift_labels"}


def test_branches_have_positions_in_a_batch(bpe):
    batches = EpochBatches(
        corpus(), NameFirst(bpe, 256), bpe.pad_token_id, BatchSettings(tokens_per_batch=1000), seed=0
    )
    batch = batches[0]
    assert set(batch) == {"input_ids", "position_ids", "branch_ids", "shift_labels", "line_ids"}
    assert torch.equal(batch["branch_ids"] == -1, batch["input_ids"] == bpe.pad_token_id)
    assert (batch["shift_labels"][batch["branch_ids"] == -1] == IGNORE).all()


def examples_of(batches, epoch: int) -> list[list]:
    batches.set_epoch(epoch)
    return [batch["input_ids"].tolist() for batch in DataLoader(batches, batch_size=1, collate_fn=lambda x: x[0])]


def test_an_epoch_is_a_function_of_seed_and_epoch_alone(bpe):
    def build(seed):
        return EpochBatches(
            corpus(), NameFirst(bpe, 256), bpe.pad_token_id, BatchSettings(tokens_per_batch=800), seed=seed
        )

    first, second = build(0), build(0)
    examples_of(second, 1)
    assert examples_of(first, 3) == examples_of(second, 3)
    assert examples_of(first, 3) != examples_of(first, 4)
    assert examples_of(first, 3) != examples_of(build(1), 3)


def test_workers_change_no_example(bpe):
    batches = EpochBatches(corpus(), NameFirst(bpe, 256), bpe.pad_token_id, BatchSettings(tokens_per_batch=800), seed=0)
    plain = [batch["input_ids"].tolist() for batch in DataLoader(batches, batch_size=None)]
    loader = DataLoader(batches, batch_size=None, num_workers=2, multiprocessing_context="fork")
    assert plain == [batch["input_ids"].tolist() for batch in loader]


@pytest.mark.parametrize("count", [1, 2])
def test_a_stream_has_every_line_of_every_buffer(characters, count):
    lines = corpus()
    streamed = StreamedBatches(
        lines.to_iterable_dataset(),
        LanguageModeling(characters, 128),
        characters.pad_token_id,
        BatchSettings(tokens_per_batch=400),
        buffer_size=10,
        seed=0,
        num_micro_batches=count,
    )
    batches = list(streamed)
    assert len(batches) % count == 0
    texts = [characters.decode(row).replace("□", "") for batch in batches for row in batch["input_ids"]]
    assert sorted(texts) == sorted(lines["text"][:])


def mixed(characters, ratio: float, count: int = 1, question_count: int = 40) -> MixedBatches:
    questions = Dataset.from_dict(
        {
            "question_id": list(range(question_count)),
            "question": [f"Where was {'a' * number}n born?" for number in range(question_count)],
            "answer": ["Rome"] * question_count,
        }
    )
    given = (characters.pad_token_id, BatchSettings(tokens_per_batch=800))
    lines = EpochBatches(corpus(), LanguageModeling(characters, 256), *given, seed=0, num_micro_batches=count)
    asked = EpochBatches(questions, QuestionAnswering(characters, 256), *given, seed=0, num_micro_batches=count)
    return MixedBatches(lines, asked, question_ratio=ratio, seed=0)


def is_question(batch) -> bool:
    # every token of a line except the first is a target; only the answer of a question is a target
    return bool((batch["shift_labels"][:, 1] == IGNORE).all())


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("count", [1, 2])
def test_questions_are_their_ratio_of_the_batches(characters, ratio, count):
    batches = mixed(characters, ratio, count)
    kinds = [is_question(batches[index]) for index in range(len(batches))]
    assert len(kinds) % count == 0
    assert abs(np.mean(kinds) - ratio) <= count / len(batches.lines)
    # the micro-batches of a global batch are of one kind
    assert all(len(set(kinds[start : start + count])) == 1 for start in range(0, len(kinds), count))
    # the two kinds are in random order
    assert kinds != sorted(kinds) and kinds != sorted(kinds, reverse=True)


def test_mixing_keeps_every_line_and_repeats_the_questions_equally_often(characters):
    batches = mixed(characters, 0.5)
    lines = [batch for batch in map(batches.__getitem__, range(len(batches))) if not is_question(batch)]
    alone = [batches.lines[index] for index in range(len(batches.lines))]
    assert sorted(batch["input_ids"].tolist() for batch in lines) == sorted(b["input_ids"].tolist() for b in alone)
    asked = [batch for batch in map(batches.__getitem__, range(len(batches))) if is_question(batch)]
    pad = characters.pad_token_id
    counts = Counter(tuple(t for t in row if t != pad) for batch in asked for row in batch["input_ids"].tolist())
    assert len(counts) == 40
    assert max(counts.values()) - min(counts.values()) <= 1


def test_all_questions_occur_in_some_epoch(characters):
    batches, asked = mixed(characters, 0.1), set()
    for epoch in range(60):
        batches.set_epoch(epoch)
        for source, number in batches.batches:
            if source is not batches.lines:
                asked.update(source[number]["line_ids"].tolist())
    assert asked == set(range(40))


def test_a_mixed_epoch_is_a_function_of_seed_and_epoch(characters):
    first, second = mixed(characters, 0.3), mixed(characters, 0.3)
    second.set_epoch(5)
    second.set_epoch(2)
    first.set_epoch(2)
    same = [torch.equal(first[i]["input_ids"], second[i]["input_ids"]) for i in range(len(first))]
    assert len(first) == len(second) and all(same)


def test_a_stream_draws_new_examples_in_every_epoch(bpe):
    stream = StreamedBatches(
        corpus(2).to_iterable_dataset(),
        NameFirst(bpe, 256),
        bpe.pad_token_id,
        BatchSettings(tokens_per_batch=800),
        seed=0,
        buffer_size=10,
    )

    def tokens(epoch: int) -> list:
        stream.set_epoch(epoch)
        return [batch["input_ids"].tolist() for batch in stream]

    assert tokens(0) != tokens(1)
    assert tokens(1) == tokens(1)
