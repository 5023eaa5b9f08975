"""The Gradio page: a question, what a checkpoint says about it and why, and a leaderboard."""

import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from birthgpt.app import views
from birthgpt.utils.errors import one_line

# before the import of Gradio, which asks its server for its newest version otherwise
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

TITLE = "Ask what a small GPT remembers"
PARTS = 5
"""The parts of a reply: answer, competing answers, attribution, attention, origin."""


def check_gradio() -> None:
    """Raise ValueError unless Gradio is installed."""
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise ValueError(f"the page needs Gradio ({error}): pip install 'birthgpt[app]'") from None


def reply(inquirer: Any, question: str, risk: float) -> tuple[str, ...]:
    """The parts of the page about a question; a question that cannot be asked is one line."""
    try:
        inquiry = inquirer(question)
    except ValueError as error:
        return (views.fault(one_line(error)), *[""] * (PARTS - 1))
    return (
        views.answer_card(inquiry, risk),
        views.competing(inquiry),
        views.attribution(inquiry),
        views.attention(inquiry),
        views.origin(inquiry, inquirer.names is not None),
    )


def build_page(
    inquirers: Mapping[str, Any], examples: Sequence[str], rows: Sequence[Mapping[str, Any]], risk: float
) -> Any:
    """The page, as `gradio.Blocks` that `launch_page` shows.

    Args:
        inquirers: what answers, by the name in the list of checkpoints.
        examples: questions to choose from.
        rows: the rows of the leaderboard, as `views.leaders` takes them.
        risk: the allowed risk of the verdicts.
    """
    import gradio as gr

    names = list(inquirers)

    def ask(question: str, name: str) -> tuple[str, ...]:
        return reply(inquirers[name], question or "", risk)

    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        gr.HTML(
            f"<h1>{TITLE}</h1><p class='quiet'>It answers from what it read in pretraining, without looking up.</p>"
        )
        with gr.Tab("Ask"):
            labels = [(f"{name} ({inquirers[name].attention})", name) for name in names]
            chosen = gr.Dropdown(
                labels, value=names[0], label="checkpoint", visible=len(names) > 1, elem_id="checkpoint"
            )
            question = gr.Textbox(
                label="question",
                placeholder=examples[0] if examples else "",
                lines=1,
                elem_id="question",
                autofocus=True,
            )
            button = gr.Button("Ask", variant="primary", elem_id="ask")
            if examples:
                gr.Examples([[example] for example in examples], [question], label="examples", cache_examples=False)
            parts = [gr.HTML(elem_classes="part", elem_id=f"part-{number}") for number in range(PARTS)]
            inputs = [question, chosen]
            # neither is part of an API: the page is for readers
            button.click(ask, inputs, parts, show_progress="minimal", api_visibility="private")
            question.submit(ask, inputs, parts, show_progress="minimal", api_visibility="private")
        with gr.Tab("Leaderboard"):
            gr.HTML(views.leaders(rows), elem_id="leaderboard")
    return page


def launch_page(page: Any, server_name: str | None, server_port: int | None, *, wait: bool = True) -> Any:
    """Serve the page; it needs no network, and loads no font.

    Args:
        server_name: the address to listen on; `GRADIO_SERVER_NAME`, or this machine alone, if not given.
        server_port: the port; `GRADIO_SERVER_PORT`, or the first that is free from 7860, if not given.
        wait: whether to serve until the program ends; otherwise the application returns at once.
    """
    import gradio as gr

    theme = gr.themes.Default(
        primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
    return page.launch(
        server_name=server_name,
        server_port=server_port,
        share=False,
        theme=theme,
        css=files("birthgpt.app").joinpath("style.css").read_text(encoding="utf-8"),
        footer_links=[],
        ssr_mode=False,
        prevent_thread_lock=not wait,
        quiet=not wait,
    )
