"""From the data of a report to one HTML file, with styles, scripts and data in it."""

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from birthgpt.utils.tables import magnitude, percent, scientific, thousands

SCRIPTS = ("draw.js", "charts.js", "confidence.js", "answers.js", "page.js")
"""The scripts of the page, in the order in which they use each other."""

MARK = '<meta name="generator" content="birthgpt report">'
"""What every report contains."""


def render(data: Mapping[str, Any]) -> str:
    """The page of a report.

    Every text of `data` is shown as text: the template escapes it, and the scripts set it as the text of elements.

    Args:
        data: from `commands.report_data`.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "percent": percent,
        "magnitude": magnitude,
        "scientific": scientific,
        "thousands": thousands,
        "duration": duration,
    }
    template = environment.from_string(_read("page.html.jinja"))
    return template.render(
        **data,
        mark=MARK,
        style=_read("style.css"),
        script="\n".join(map(_read, SCRIPTS)),
        json=embedded_json(data),
    )


def embedded_json(data: Any) -> str:
    """JSON that may stand in a script element: no text in it can end the element, or begin a comment."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False)
    # each is the escape of one character in JSON
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def duration(seconds: float) -> str:
    """Seconds as a reader says them: 42 → `42 s`, 900 → `15 min`, 9000 → `2.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def is_report(file: Path) -> bool:
    """Whether a file is an earlier report, which may be replaced."""
    try:
        with file.open(encoding="utf-8") as page:
            return MARK in page.read(2000)
    except (OSError, UnicodeDecodeError):
        return False


def _read(name: str) -> str:
    return files("birthgpt.report").joinpath(name).read_text(encoding="utf-8")
