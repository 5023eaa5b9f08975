"""Every command refuses damage and odd values in one line, or is not affected by them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fuzz.driver import LOADING, forbidden, new_driver, outcome_table

CASES, PARTS = 300, 3
LOADED = 200


def test_the_fuzz_leaves_the_threads_of_other_tests_alone():
    # pytest imports it while it collects, before any test runs
    program = "import os; before = dict(os.environ); import fuzz.driver; print({*os.environ} - {*before})"
    given = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    given["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    result = subprocess.run([sys.executable, "-c", program], env=given, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "THREADS" not in result.stdout


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    return new_driver(tmp_path_factory.mktemp("fuzz"), seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_no_case_ends_in_a_forbidden_way(part, driver):
    reports = list(driver.run(range(part, CASES, PARTS)))
    faults = forbidden(reports)
    assert not faults, "\n\n".join([outcome_table(reports), *map(str, faults)])


@pytest.mark.slow
def test_no_damaged_file_of_a_model_is_loaded_in_a_forbidden_way(tmp_path):
    reports = list(new_driver(tmp_path, 0, LOADING).run(range(LOADED)))
    faults = forbidden(reports)
    assert not faults, "\n\n".join([outcome_table(reports), *map(str, faults)])
