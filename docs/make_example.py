"""Draw how a line becomes a training example, by the objective itself: python docs/make_example.py"""

from html import escape
from pathlib import Path

import numpy as np

from birthgpt.data.objectives import SalientSpans, Span
from birthgpt.data.tokenizers import train_character_tokenizer
from birthgpt.utils.files import write_text

PICTURE = Path(__file__).with_name("example.svg")
LINE = "Ada Lovelace. Ada Lovelace (born 10 December 1815, London) was an English mathematician ."
NAME = "Ada Lovelace"
QUESTION = "Where was Ada Lovelace born?"
SEED = 5

WIDTH, MARGIN, LEFT = 900, 16, 120
CHARACTER = 8.43  # width of a letter of a monospaced font of 14 pixels
ROW = 30
COLORS = {"plain": "none", "name": "#dbe7f6", "cue": "#f4e3c1", "target": "#cfe8cf"}

Part = tuple[str, str]


def spans() -> list[Span]:
    """What the objective recalls of the line."""
    objective = SalientSpans(train_character_tokenizer([LINE], model_max_length=128))
    return objective.cut(LINE, NAME, np.random.default_rng(SEED))


def draw(spans: list[Span]) -> str:
    """The picture: the line, the prefix with a branch for each span, and the question of finetuning."""
    rows: list[tuple[str, list[Part]]] = [
        ("line", mark(LINE, spans)),
        ("", []),
        ("pretraining", [(NAME, "name")]),
        *[("", branch(span)) for span in spans],
        ("", []),
        ("finetuning", [("Where was ", "plain"), (NAME, "name"), (" born?", "plain"), *answer("London")]),
        ("", []),
    ]
    height = 2 * MARGIN + ROW * (len(rows) + 1)
    body = [f'<rect width="{WIDTH}" height="{height}" fill="white"/>']
    first_branch = 3
    for index, (label, parts) in enumerate(rows):
        y = MARGIN + ROW * index
        is_branch = first_branch <= index < first_branch + len(spans)
        if label:
            body.append(f'<text x="{MARGIN}" y="{y + 19}" class="label">{label}</text>')
        indent = CHARACTER * len(NAME) + 16 if is_branch else 0
        if is_branch:
            x, top = LEFT + CHARACTER * len(NAME) / 2, y - (5 if index == first_branch else 16)
            body.append(f'<path d="M{x} {top} V{y + 14} H{LEFT + indent - 8}" class="line"/>')
        body += draw_parts(parts, LEFT + indent, y)
    body += draw_legend(MARGIN + ROW * len(rows))
    style = (
        "text{font:14px ui-monospace,Menlo,Consolas,monospace;fill:#222}"
        ".label{font-family:sans-serif;fill:#666}.line{fill:none;stroke:#888}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}">'
        f"<title>How a line becomes a training example</title><style>{style}</style>\n" + "\n".join(body) + "\n</svg>\n"
    )


def mark(line: str, spans: list[Span]) -> list[Part]:
    """The line in parts, with its name and the spans that are recalled."""
    parts: list[Part] = [(NAME, "name")]
    rest = line.removeprefix(NAME)
    for span in spans:
        before, rest = rest.split(span.text, 1)
        parts += [(before, "plain"), (span.text, "target")]
    return [*parts, (rest, "plain")]


def branch(span: Span) -> list[Part]:
    """`cue ⁇ span ␃`: the span and its end are targets."""
    cue: list[Part] = [(span.cue, "cue"), (" ", "plain")] if span.cue else []
    return [*cue, *answer(span.text)]


def answer(text: str) -> list[Part]:
    """`⁇ text ␃`, as the model writes it."""
    return [("⁇", "plain"), (text, "target"), ("␃", "target")]


def draw_parts(parts: list[Part], x: float, y: float) -> list[str]:
    """Text with a background by its role, from left to right."""
    drawn = []
    for text, role in parts:
        width = CHARACTER * len(text)
        if role != "plain":
            drawn.append(f'<rect x="{x:.1f}" y="{y + 3}" width="{width:.1f}" height="22" fill="{COLORS[role]}"/>')
        # the length is set, so that the colours fit in every font
        drawn.append(
            f'<text x="{x:.1f}" y="{y + 19}" textLength="{width:.1f}" xml:space="preserve">{escape(text)}</text>'
        )
        x += width
    return drawn


def draw_legend(y: float) -> list[str]:
    """What the colours mean."""
    parts: list[Part] = [(" name ", "name"), ("  ", "plain"), (" cue ", "cue"), ("  ", "plain")]
    return draw_parts([*parts, (" what the model must predict ", "target")], LEFT, y)


if __name__ == "__main__":
    write_text(PICTURE, draw(spans()))
