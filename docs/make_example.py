"""Draw how a line becomes a training example, by the objective itself: python docs/make_example.py"""

from html import escape
from pathlib import Path

import numpy as np

from birthgpt.data.objectives import Objective, SalientSpans, Span
from birthgpt.data.tokenizers import train_character_tokenizer
from birthgpt.settings import read_config, settings_of
from birthgpt.utils.files import write_text

PICTURE = Path(__file__).with_name("example.svg")
LINE = "Ada Lovelace. She was born in London. Her life began on December 10, 1815. She is a writer."
NAME = "Ada Lovelace"
QUESTIONS = [("Where was ", " born?", "London"), ("What does ", " work as?", "writer")]
CONFIG = "quickstart/pretrain"
EPOCHS = {"pretraining": 132, "another epoch": 2}
"""The seeds of two epochs: the cues are behind the name, or one of them is before it."""

WIDTH, MARGIN, LEFT = 900, 16, 120
CHARACTER = 8.43  # width of a letter of a monospaced font of 14 pixels
ROW = 30
COLORS = {"plain": "none", "name": "#dbe7f6", "cue": "#f4e3c1", "target": "#cfe8cf"}

Part = tuple[str, str]


def examples() -> dict[str, tuple[str, list[Span]]]:
    """In each epoch, the words before the name, and what the objective recalls of the line."""
    own = {entry.name for entry in settings_of(SalientSpans)} - {entry.name for entry in settings_of(Objective)}
    values = {name: value for name, value in read_config(CONFIG).items() if name in own}
    objective = SalientSpans(train_character_tokenizer([LINE], model_max_length=128), **values)
    # a corpus of lines of this form, few of which are about writers
    objective.read_corpus({"text": text} for text in [LINE] + [LINE.replace("writer", "poet")] * 99)
    found = {}
    for epoch, seed in EPOCHS.items():
        generator = np.random.default_rng(seed)
        found[epoch] = objective.draw_lead(objective.cut(LINE, NAME, generator), generator)
    return found


def draw(examples: dict[str, tuple[str, list[Span]]]) -> str:
    """The picture: the line, the prefix with a branch for each span in two epochs, and questions of finetuning."""
    rows: list[tuple[str, list[Part], float | None]] = [("line", mark(LINE, next(iter(examples.values()))[1]), None)]
    for epoch, (lead, spans) in examples.items():
        prefix: list[Part] = [(lead, "cue"), (" ", "plain")] if lead else []
        start = CHARACTER * sum(len(text) for text, _ in prefix)
        rows += [("", [], None), (epoch, [*prefix, (NAME, "name")], None)]
        rows += [("", branch(span), start) for span in spans]
    rows.append(("", [], None))
    for number, (before, after, text) in enumerate(QUESTIONS):
        parts: list[Part] = [(before, "plain"), (NAME, "name"), (after, "plain"), *answer(text)]
        rows.append(("" if number else "finetuning", parts, None))
    rows.append(("", [], None))
    height = 2 * MARGIN + ROW * (len(rows) + 1)
    body = [f'<rect width="{WIDTH}" height="{height}" fill="white"/>']
    is_first = True
    for index, (label, parts, name_start) in enumerate(rows):
        y = MARGIN + ROW * index
        if label:
            body.append(f'<text x="{MARGIN}" y="{y + 19}" class="label">{label}</text>')
        indent = 0.0
        if name_start is not None:
            indent = name_start + CHARACTER * len(NAME) + 16
            x, top = LEFT + name_start + CHARACTER * len(NAME) / 2, y - (5 if is_first else 16)
            body.append(f'<path d="M{x:.1f} {top} V{y + 14} H{LEFT + indent - 8:.1f}" class="line"/>')
        is_first = name_start is None
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
    write_text(PICTURE, draw(examples()))
