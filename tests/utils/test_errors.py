"""What a user sees of an error is one line that is not endless."""

import pytest

from birthgpt.cli import main
from birthgpt.utils.errors import LONGEST, one_line


def test_a_message_is_one_line_without_what_a_terminal_would_act_on():
    assert one_line(ValueError("a\nb\tc\x1b[1m\u202ed")) == r"a\nb\tc\x1b[1m\u202ed"
    assert one_line(ValueError("Émilie, 東京 ⁇")) == "Émilie, 東京 ⁇"


def test_a_long_message_keeps_its_beginning_and_its_end():
    message = one_line(ValueError("first " + "x" * 200_000 + " last"))
    assert message.startswith("first ") and message.endswith(" last") and len(message) == 2 * LONGEST + 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["verify", "é" * 300], "File name too long"),
        (["verify", "a\nb"], r"a\nb has no model"),
        (["verify", ""], "folder=: it is empty"),
        (["ask", "m", "Where \udcff?"], "it is not UTF-8"),
        (["ask", "a\0b", "Where?"], "it contains a null character"),
        (["ensemble", "--model_names_or_paths", "", "--question_file", "q", "--output_dir", "o"], "it is empty"),
        (["split", "--question_file", "", "--output_dir", "o"], "question_file=: it is empty"),
        (["probe", *"--model_name_or_path m --question_file q --corpus_file c --output_dir o".split(), "--num_threads",
          "1000000"], "num_threads=1000000: it must be"),
    ],
)  # fmt: skip
def test_a_value_that_no_system_takes_is_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as ending:
        main(arguments)
    error = capsys.readouterr().err.strip()
    assert ending.value.code == 2
    assert error.startswith("error: ") and message in error and "\n" not in error
