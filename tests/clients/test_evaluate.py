"""The metrics of the package are modules of `evaluate`, which combines them."""

import pytest


@pytest.mark.parametrize("workspace", ["softmax"], indirect=True)
def test_metrics_are_loaded_and_combined(run):
    # of two words, one is right: precision 1/2, recall 1
    assert run("evaluate_metrics")["result"] == {"exact_match": 0.5, "f1": pytest.approx((1 + 2 / 3) / 2)}
