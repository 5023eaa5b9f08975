"""Figures as SVG: the same curves always give the same file."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from birthgpt.utils.files import write_text

LARGEST_FIGURE = 100_000
"""Bytes of the largest figure."""

# letters as text, and the same names of elements in every run
STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "birthgpt", "font.size": 9, "lines.linewidth": 1.3}


def save_figure(path: Path, draw: Callable[[Figure, Any], None], curves: Mapping[str, Any]) -> None:
    """Draw curves into an SVG file."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 3.2), layout="constrained")
        draw(figure, curves)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    assert len(text.getvalue().encode()) < LARGEST_FIGURE, f"{path} is too large: draw fewer points"
    write_text(path, text.getvalue())


def draw_lines(
    axis: Axes, x: Sequence[float], lines: Mapping[str, Sequence[float | None]], *, style: str = "o-", **labels: Any
) -> None:
    """Draw a line for each label over the same x; None is a gap. `labels` are the arguments of `Axes.set`."""
    for label, y in lines.items():
        axis.plot(x, [float("nan") if value is None else value for value in y], style, markersize=3, label=label)
    axis.set(**labels)
    axis.legend(fontsize=7)


def draw_heatmap(
    axis: Axes, table: Mapping[str, Sequence[float | None]], columns: Sequence[str], **labels: Any
) -> None:
    """Draw rows of numbers in 0..1 as colours, with each number in its cell; None is an empty cell."""
    values = [[float("nan") if value is None else value for value in row] for row in table.values()]
    axis.imshow(values, aspect="auto", vmin=0, vmax=1, cmap="Blues")
    for row, numbers in enumerate(table.values()):
        for column, number in enumerate(numbers):
            if number is not None:
                color = "white" if number > 0.6 else "black"
                axis.text(column, row, f"{number:.2f}", ha="center", va="center", color=color, fontsize=7)
    axis.set_xticks(range(len(columns)), columns)
    axis.set_yticks(range(len(table)), list(table))
    axis.set(**labels)
