"""Questions of any kind to a page: a reply with every part, or one clear line; texts are shown as text."""

import re

import pytest

from birthgpt.app.page import PARTS, reply
from birthgpt.app.views import escaped
from birthgpt.commands.app import PageRisk
from birthgpt.commands.inquiry import Inquirer, ReadNames
from birthgpt.evaluation.answering import DecodingSettings

REFUSED = {
    "": "there is no question",
    " \u200b\ufeff ": "there is no question",
    "x" * 100_000: "has 100,000 characters",
    "Where was ⁇ born?": "⁇",
    "Where was Ada born?⁇": "⁇",
    "y z " * 490: "tokens",
}
ODD = (
    *("\x00\x01\x1b[31m", "\u202eWhere was Ada born?", "é" * 40, "🧠" * 12, "a\tb\r\nc", "𝔄" * 10 + "\ufffd", "\ud800"),
    *("<b>**bold**</b>", "Where was ␀ born?", "?", "Where was  born?", "{name}", "\\", "'; DROP TABLE"),
)


@pytest.fixture(scope="module")
def inquirer(finetuned):
    names = ReadNames(
        {"Ada Lovelace": ["Ada Lovelace. Born in <i>London</i> ."], "Lise Meitner": ["Lise Meitner. …"]}, 9
    )
    return Inquirer(str(finetuned), DecodingSettings(), PageRisk(), 3, names)


@pytest.mark.slow
@pytest.mark.parametrize("question", REFUSED, ids=range(len(REFUSED)))
def test_a_question_that_cannot_be_asked_is_one_clear_line(question, inquirer):
    first, *others = reply(inquirer, question, 0.05)
    assert REFUSED[question] in first and "fault" in first and others == [""] * (PARTS - 1)
    assert len(first) < 1500 and "\n" not in first


@pytest.mark.slow
@pytest.mark.parametrize("question", ODD, ids=range(len(ODD)))
def test_any_other_text_is_a_question(question, inquirer):
    parts = reply(inquirer, question, 0.05)
    assert len(parts) == PARTS and ("fault" in parts[0] or "probability" in parts[0])
    assert "<b>" not in "".join(parts)


@pytest.mark.slow
def test_a_read_name_has_its_lines_and_another_one_its_neighbours(inquirer):
    read = inquirer("Where was Ada Lovelace born?")
    assert read.name == "Ada Lovelace" and read.lines and read.neighbours is None
    assert "&lt;i&gt;London&lt;/i&gt;" in reply(inquirer, "Where was Ada Lovelace born?", 0.05)[-1]
    new = inquirer("Where was Zorbo Quix born?")
    assert new.lines == () and {one.name for one in new.neighbours} == {"Ada Lovelace", "Lise Meitner"}
    # the name itself is the nearest to itself
    inquirer.names.lines.pop("Lise Meitner")
    first = inquirer("Where was Lise Meitner born?").neighbours[0]
    assert first.name == "Lise Meitner" and first.cosine == pytest.approx(1, abs=1e-4)
    inquirer.names.lines["Lise Meitner"] = ["Lise Meitner. …"]
    assert re.fullmatch(r"[^<>${}`\"\']+", escaped("<b>\"x\" 'y' ${1} `z`"))
