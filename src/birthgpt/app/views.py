"""What the page says about an inquiry, as HTML in which every text of a model or of a file is escaped."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from birthgpt.utils.tables import magnitude, percent, scientific

_OF_TEMPLATES = str.maketrans({"$": "&#36;", "{": "&#123;", "}": "&#125;", "`": "&#96;"})

SHOWN_LINES = 5
"""Lines about a name that the page shows."""

VERDICTS = {
    "recalled": "the model recalls this; of all answers with this verdict, at most the allowed rate is wrong",
    "unsure": "this is a guess",
    "unknown": "the model probably never read this name",
}


def escaped(text: str) -> str:
    """A text that HTML, and the templates of Gradio, show as it is."""
    return html.escape(text).translate(_OF_TEMPLATES)


def answer_card(inquiry: Any, risk: float) -> str:
    """The answer with its verdict, and what to know about the question."""
    answer, judged = inquiry.answer, inquiry.judged
    if judged is None:
        verdict, number = "", f"probability {answer.probability:.2f}; not calibrated"
    else:
        kind = escaped(judged.verdict)
        verdict = f'<span class="verdict {kind}" title="{escaped(VERDICTS[judged.verdict])}">{kind}</span>'
        number = f"p(right) {judged.right:.2f}, p(never read) {judged.unknown:.2f}, allowed risk {percent(risk)}%"
    notes = []
    if judged is not None:
        notes.append(f"{judged.verdict}: {VERDICTS[judged.verdict]}")
        if not judged.in_scope:
            notes.append("the calibration has no such wording: nothing is promised")
    if not answer.has_end:
        notes.append("the answer was cut off at its longest length")
    if inquiry.unknown_characters:
        notes.append(f"the model does not know the characters {inquiry.unknown_characters[:40]}")
    shown = "".join(f"<li>{escaped(note)}</li>" for note in notes)
    return (
        f'<div class="answer-card"><div class="said">{escaped(answer.shown) or "(nothing)"} {verdict}</div>'
        f'<div class="quiet">{number}</div><ul class="quiet">{shown}</ul></div>'
    )


def bars(rows: Sequence[tuple[str, float]], title: str) -> str:
    """Names with bars of their values in 0..1."""
    lines = "".join(
        f'<span class="name">{escaped(name) or "(nothing)"}</span>'
        f'<span class="rail"><span style="width:{100 * min(1.0, max(0.0, value)):.1f}%"></span></span>'
        f'<span class="value">{percent(value)}%</span>'
        for name, value in rows
    )
    return f'<h4>{escaped(title)}</h4><div class="bars">{lines}</div>'


def competing(inquiry: Any) -> str:
    """The competing answers as bars."""
    rows = [(entry["answer"], entry["probability"]) for entry in inquiry.candidates]
    return bars(rows, "Competing answers, with their probabilities")


def attribution(inquiry: Any) -> str:
    """The tokens of the question in colours: how much each contributes to the answer."""
    found = inquiry.attribution
    largest = max((abs(value) for value in found.values), default=0) or 1.0
    tokens = "".join(
        f'<span class="token" style="background:rgba({"47,95,208" if value >= 0 else "208,80,47"},'
        f'{0.75 * abs(value) / largest:.2f})" title="{value:+.3f}">{_token(text)}</span>'
        for text, value in zip(found.tokens, found.values, strict=True)
    )
    return (
        f"<h4>What the answer depends on</h4><p>{tokens}</p>"
        '<p class="quiet">Gradient × input of log p(answer): blue tokens speak for the answer, orange ones '
        "against it.</p>"
    )


def attention(inquiry: Any) -> str:
    """What ⁇ attends to: a row of tokens for each layer that has weights."""
    found = inquiry.attention
    rows = ""
    for number, weights in enumerate(found.layers, start=1):
        if weights is None:
            continue
        largest = max(weights) or 1.0
        cells = "".join(
            f'<span class="token" style="background:rgba(25,154,120,{0.8 * weight / largest:.2f})" '
            f'title="{percent(weight)}%">{_token(text)}</span>'
            for text, weight in zip(found.tokens, weights, strict=True)
        )
        rows += f'<p><span class="layer">layer {number}</span> {cells}</p>'
    missing = f'<p class="quiet">The {escaped(found.missing)}.</p>' if found.missing else ""
    return f"<h4>What ⁇ attends to, mean over the heads</h4>{rows}{missing}"


def origin(inquiry: Any, has_corpus: bool) -> str:
    """The lines of a name that was read, or the nearest names to one that was not."""
    if not has_corpus:
        return (
            '<h4>Was this name read?</h4><p class="quiet">Start the page with --corpus_file to see the lines of a '
            "name, and the nearest names to one that no line has.</p>"
        )
    if inquiry.lines:
        lines = "".join(f"<li>{escaped(line)}</li>" for line in inquiry.lines[:SHOWN_LINES])
        others = len(inquiry.lines) - SHOWN_LINES
        more = f'<p class="quiet">and {others} more</p>' if others > 0 else ""
        return f"<h4>What was read about {escaped(inquiry.name)}</h4><ul>{lines}</ul>{more}"
    if inquiry.name is None:
        return '<h4>Was this name read?</h4><p class="quiet">No name is found in this question.</p>'
    head = f"<h4>No line is about {escaped(inquiry.name)}</h4>"
    if not inquiry.neighbours:
        return head + '<p class="quiet">The nearest names are not computed for this checkpoint.</p>'
    rows = "".join(
        f"<tr><td>{escaped(one.name)}</td><td>{one.cosine:.3f}</td><td>{escaped(one.answer) or '(nothing)'}</td></tr>"
        for one in inquiry.neighbours
    )
    headings = "".join(f"<th>{text}</th>" for text in ("nearest read name", "cosine", "its answer"))
    return (
        f'{head}<table class="plain"><thead><tr>{headings}</tr></thead><tbody>{rows}</tbody></table>'
        '<p class="quiet">Nearest by the state at ⁇ in the same question. A made-up answer is often that of a near '
        "name.</p>"
    )


def leaders(rows: Sequence[Mapping[str, Any]]) -> str:
    """The checkpoints of the page, or the leaderboard of runs, as a table."""
    body = ""
    for row in rows:
        accuracy = "–" if row["accuracy"] is None else percent(row["accuracy"])
        if row.get("deviation") is not None:
            accuracy += f" ± {percent(row['deviation'])}"
        if row.get("low") is not None:
            accuracy += f' <span class="quiet">({percent(row["low"])} – {percent(row["high"])})</span>'
        cells = [
            escaped(row["name"]),
            escaped(row["attention"] or "–"),
            accuracy,
            magnitude(row["parameters"]) if row["parameters"] else "–",
            scientific(row["flops"]) if row["flops"] else "–",
            escaped(row["table"] or "–"),
        ]
        body += "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    heads = ("name", "attention", "accuracy (%)", "parameters", "FLOPs", "questions")
    head = "".join(f"<th>{name}</th>" for name in heads)
    return f'<div class="scroll"><table class="plain"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def fault(message: str) -> str:
    """A line that says what is wrong with a question."""
    return f'<div class="answer-card fault" role="alert">{escaped(message)}</div>'


def _token(text: str) -> str:
    # a space would not be seen
    return escaped(text).replace(" ", "&nbsp;") or "&nbsp;"
