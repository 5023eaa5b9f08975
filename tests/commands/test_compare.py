"""The metrics of several runs become the rows of one table, or an error names the file."""

import pytest

from birthgpt.commands.compare import comparison_rows
from birthgpt.utils.files import save_json

METRICS = {"name": "better", "accuracy": 0.5, "correct": 2, "total": 4, "finetuning_seed": 7}


def test_compared_runs_are_rows_in_the_order_given(tmp_path):
    unnamed = {"accuracy": 0.0, "correct": 0, "total": 4}
    save_json(tmp_path / "0.json", METRICS)
    save_json(tmp_path / "1.json", unnamed)
    rows = comparison_rows([tmp_path / "1.json", str(tmp_path / "0.json")])
    assert rows == [{**unnamed, "name": str(tmp_path / "1.json")}, METRICS]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        ("{", "is damaged: it is not JSON"),
        ("\udcff", "is damaged: it is not UTF-8"),
        ("[1]", "is damaged: it contains list instead of an object"),
        ('{"accuracy": 0.5}', "'correct', 'total' is missing"),
        ('{"accuracy": NaN, "correct": 1, "total": 2}', "ratio between 0 and 1, not nan"),
    ],
)
def test_a_run_that_cannot_be_compared_is_an_error_that_names_its_file(tmp_path, content, message):
    path = tmp_path / "metrics.json"
    if content is not None:
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=f"{path}:? .*{message}"):
        comparison_rows([path])
