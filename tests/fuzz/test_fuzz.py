"""Every command refuses damage and odd values in one line, or is not affected by them."""

import pytest

from fuzz.driver import LOADING, forbidden, new_driver, outcome_table

CASES, PARTS = 300, 3
LOADED = 200


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
