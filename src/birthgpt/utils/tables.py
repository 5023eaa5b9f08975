"""Tables of metrics, for a terminal or in Markdown."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

MISSING = "–"

LONGEST_TABLE = 40
"""The number of rows of a table in a terminal."""


def percent(ratio: float) -> str:
    """A ratio in 0..1 as percent with one decimal: 0.614 → `61.4`."""
    return f"{100 * ratio:.1f}"


def magnitude(count: float) -> str:
    """A count in thousands, millions or billions: 3323392 → `3.3M`."""
    for size, suffix in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        # 999,950 and more would be rounded to 1000.0k
        if count >= 0.99995 * size:
            return f"{count / size:.1f}{suffix}"
    return f"{count:g}"


def points(difference: float) -> str:
    """A difference of two ratios in percentage points, with its sign: -0.031 → `-3.1`."""
    return f"{100 * difference:+.1f}"


def minutes(seconds: float) -> str:
    """Seconds as minutes with one decimal."""
    return f"{seconds / 60:.1f}"


def thousands(number: float) -> str:
    """A whole number with separators: 14695 → `14,695`."""
    return f"{number:,.0f}"


def scientific(number: float) -> str:
    """One decimal and the power of ten: 4e13 → `4.0e13`."""
    return f"{number:.1e}".replace("e+", "e")


NUMBER_COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "accuracy": ("accuracy (%)", percent),
    "deviation": ("± (points)", percent),
    "difference": ("Δ (points)", points),
    "normalized_match": ("normalized match (%)", percent),
    "f1": ("F1 (%)", percent),
    "correct": ("correct", thousands),
    "total": ("n", thousands),
    "mean_log_probability": ("mean log p", "{:.2f}".format),
    "parameters": ("parameters", magnitude),
    "tokens": ("training tokens", magnitude),
    "target_ratio": ("targets (%)", percent),
    "flops": ("FLOPs", scientific),
    "seconds": ("minutes", minutes),
    "tokens_per_second": ("tokens/s", thousands),
    "pretraining_seed": ("pretraining seed", str),
    "finetuning_seed": ("finetuning seed", str),
    "steps": ("updates", thousands),
    "loss": ("last loss", "{:.3f}".format),
    "count": ("n", thousands),
    "as_span": ("can be a span (%)", percent),
    "asked_per_epoch": ("asked in an epoch", "{:.1f}".format),
    **{f"recall@{k}": (f"recall@{k} (%)", percent) for k in (1, 3, 10, 30)},
}
"""Key of a row → heading and format. Every other key is text."""


def markdown_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """A Markdown table of the named keys of each row. A missing value, or `None`, is an en dash."""
    rules = ["---:" if key in NUMBER_COLUMNS else "---" for key in columns]
    body = [[_escape(cell) for cell in _cells(row, columns)] for row in rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [_headings(columns), rules, *body])


def number_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table of texts: the first column is on the left, and the others, which are numbers, on the right."""
    rule = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [heads, rule, *rows])


def text_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """A table in plain text for a terminal, with aligned columns and numbers on the right."""
    lines = [_headings(columns), *(_cells(row, columns) for row in rows)]
    widths = [max(len(line[position]) for line in lines) for position in range(len(columns))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(
            cell.rjust(width) if key in NUMBER_COLUMNS else cell.ljust(width)
            for key, cell, width in zip(columns, line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def limited_table(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, limit: int = LONGEST_TABLE, rest: str = ""
) -> str:
    """`text_table` of at most `limit` rows: those with the greatest `count`, and a line with the number of the others.

    Args:
        rest: where the others are, such as ` in metrics.json`.
    """
    shown = sorted(rows, key=lambda row: -row["count"])[:limit] if len(rows) > limit else rows
    others = len(rows) - len(shown)
    return text_table(shown, columns) + (f"\n({others} more{rest})" if others else "")


def _headings(columns: Sequence[str]) -> list[str]:
    return [NUMBER_COLUMNS[key][0] if key in NUMBER_COLUMNS else key.replace("_", " ") for key in columns]


def _cells(row: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    return [
        MISSING
        if row.get(key) is None
        else NUMBER_COLUMNS[key][1](row[key])
        if key in NUMBER_COLUMNS
        else str(row[key])
        for key in columns
    ]


def _escape(cell: str) -> str:
    return " ".join(cell.split()).replace("|", "\\|")
