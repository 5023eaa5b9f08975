"""Rows of a leaderboard: what is one configuration, and how certain its accuracy is."""

from dataclasses import replace
from statistics import fmean, stdev

import numpy as np
import pytest

from birthgpt.evaluation.leaderboard import Entry, bootstrap_interval, common_name, leaderboard


def entry(name="a", configuration="a", seeds=(0,), right=(True, False), **changes):
    known = {"right": list(right), "people": tuple(range(len(right))), "accuracy": fmean(right), "total": len(right)}
    return Entry(name, configuration, seeds, **(known | {"cost": {"flops": 1e12}} | changes))


def test_the_seeds_of_a_configuration_are_one_row():
    rights = [(True, True, False, False), (True, True, True, False), (True, False, False, False)]
    found = leaderboard(
        [entry("x", "x", right=(True,) * 4), *(entry(f"a_{i}", seeds=(i,), right=r) for i, r in enumerate(rights))]
    )
    assert [row.name for row in found] == ["x", "a"]
    assert found[1].entries == (1, 2, 3) and found[0].deviation is None
    accuracies = [sum(right) / 4 for right in rights]
    assert found[1].accuracy == pytest.approx(fmean(accuracies)) and found[1].deviation == pytest.approx(
        stdev(accuracies)
    )
    assert found[1].low <= found[1].accuracy <= found[1].high


def test_two_evaluations_of_one_seed_are_told_apart_by_name():
    found = leaderboard([entry("greedy"), entry("beams"), entry("greedy", seeds=(1,))])
    assert sorted(row.entries for row in found) == [(0, 2), (1,)]
    assert len(leaderboard([entry("same"), entry("same")])) == 2


def test_the_interval_is_that_of_an_independent_bootstrap():
    generator = np.random.default_rng(1)
    people = generator.integers(0, 40, size=120).tolist()
    right = generator.random((3, 120)) < 0.7
    low, high = bootstrap_interval(right.tolist(), people, num_resamples=4000)
    draws = []
    for _ in range(4000):
        chosen = generator.choice(sorted(set(people)), size=len(set(people)))
        rows = np.concatenate([np.flatnonzero(np.array(people) == person) for person in chosen])
        draws.append(right[:, rows].mean())
    assert (low, high) == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.01)


def test_without_answers_the_interval_is_that_of_a_rate():
    found = leaderboard([replace(entry(), accuracy=0.8, total=500, right=None, people=())])[0]
    half = 1.96 * (0.8 * 0.2 / 500) ** 0.5
    assert (found.low, found.high) == pytest.approx((0.8 - half, 0.8 + half), abs=0.006)


def test_a_cost_is_a_mean_only_if_all_entries_have_it():
    found = leaderboard([entry(cost={"flops": 1.0, "seconds": 2.0}), entry(seeds=(1,), cost={"flops": 3.0})])[0]
    assert found.cost == {"flops": 2.0}


@pytest.mark.parametrize(
    ("names", "common"),
    [(["wiki_seed_0", "wiki_seed_1"], "wiki"), (["seed-1", "seed-2"], "seed-1"), (["a", "a"], "a"), (["x", "y"], "x")],
)
def test_a_row_has_the_name_that_its_entries_have_in_common(names, common):
    assert common_name(names) == common
