"""A page to ask checkpoints: answers with verdicts, competing answers, attribution, nearest names, a leaderboard."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from birthgpt.app.page import build_page, check_gradio, launch_page
from birthgpt.commands.command import Command
from birthgpt.commands.confidence_report import RiskSettings
from birthgpt.commands.inquiry import Inquirer, ReadNames
from birthgpt.commands.report_answers import training_cost
from birthgpt.commands.report_data import report_data
from birthgpt.commands.report_runs import find_evaluations
from birthgpt.data.corpus import ColumnSettings, lines_by_name
from birthgpt.data.questions import load_questions
from birthgpt.evaluation.answering import DecodingSettings
from birthgpt.evaluation.wordings import NAME
from birthgpt.settings import Number, checked, setting, with_default

EXAMPLES = 6


@checked
@dataclass(kw_only=True)
class PageRisk(RiskSettings):
    """The risk that the verdicts allow, for checkpoints with a calibration."""

    max_risk: Number | None = with_default(RiskSettings, "max_risk", 0.05)


@checked
@dataclass(kw_only=True)
class AppSettings(ColumnSettings):
    """Serve a page to ask checkpoints, on this machine."""

    checkpoints: list[str] = setting(help="finetuned checkpoints, to choose from")
    corpus_file: str | None = setting(
        None, "biographies that were read: shows the lines of a name, and the nearest names to one that no line has"
    )
    names_compared: int = setting(500, "names of corpus_file that a new name is compared with; 0: none", min=0)
    question_file: str | None = setting(None, "questions, the first of which are examples")
    runs: list[str] | None = setting(None, "runs of the leaderboard, as in birthgpt report")
    competing_answers: int = setting(5, "beams of the search for competing answers", min=2, max=50)
    decoding: DecodingSettings
    risk: PageRisk
    server_name: str | None = setting(None, "address to listen on, such as 0.0.0.0; this machine alone if not given")
    server_port: int | None = setting(None, "port; the first free one from 7860 if not given", min=1, max=65535)
    dry_run: bool = setting(False, "load the checkpoints, and serve nothing")

    def validate_checkpoints(self):
        """There is something to ask, and each has a name of its own in the list."""
        if not self.checkpoints:
            raise ValueError("checkpoints is empty: give at least one, such as runs/quickstart/with_pretraining")
        if len(set(self.checkpoints)) < len(self.checkpoints):
            raise ValueError("a checkpoint is given twice in checkpoints: give each once")


def app(settings: AppSettings) -> None:
    """Serve the page until Ctrl-C.

    Raises:
        ValueError: Gradio is not installed; a checkpoint, its calibration, or a file cannot be read; no port is free.
    """
    check_gradio()
    page, risk = make_page(settings), settings.risk.max_risk
    assert risk is not None
    if settings.dry_run:
        return
    try:
        launch_page(page, settings.server_name, settings.server_port)
    except OSError as error:
        raise ValueError(f"the page cannot be served: {error}; give another server_port") from None


def make_page(settings: AppSettings) -> Any:
    """The page of these settings, as `gradio.Blocks`."""
    names = None
    if settings.corpus_file is not None:
        names = ReadNames(lines_by_name(settings.read_lines(settings.corpus_file)), settings.names_compared)
    inquirers = {
        name: Inquirer(path, settings.decoding, settings.risk, settings.competing_answers, names)
        for name, path in zip(short_names(settings.checkpoints), settings.checkpoints, strict=True)
    }
    assert settings.risk.max_risk is not None
    rows = leaderboard_rows(settings, inquirers)
    return build_page(inquirers, example_questions(settings, inquirers, names), rows, settings.risk.max_risk)


def short_names(paths: Sequence[str]) -> list[str]:
    """The last parts of paths, as many as tell them apart."""
    parts = [Path(path).parts or (path,) for path in paths]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return list(paths)


def example_questions(settings: AppSettings, inquirers: Mapping[str, Inquirer], names: ReadNames | None) -> list[str]:
    """The first questions of `question_file`; without it, the known wordings about names of the corpus."""
    if settings.question_file is not None:
        asked = load_questions(settings.question_file, require_answers=False)
        return asked["question"][:EXAMPLES]
    wordings = next(iter(inquirers.values())).wordings
    read = list(names.lines)[:EXAMPLES] if names is not None else ["Ada Lovelace"]
    return [wordings[place % len(wordings)].replace(NAME, name) for place, name in enumerate(read)]


def leaderboard_rows(settings: AppSettings, inquirers: Mapping[str, Inquirer]) -> list[dict[str, Any]]:
    """The leaderboard of `runs`; without them, the checkpoints of the page with their cost."""
    if settings.runs:
        tables = report_data(find_evaluations(settings.runs), "")["tables"]
        return [{**row, "table": table["key"]} for table in tables for row in table["rows"]]
    return [
        {
            "name": name,
            "attention": inquirer.attention,
            "accuracy": None,
            "parameters": inquirer.model.num_parameters(),
            "flops": training_cost(inquirer.path).get("flops"),
            "table": None,
        }
        for name, inquirer in inquirers.items()
    ]


COMMAND = Command(AppSettings, app, positional=("checkpoints",), several_processes=False)
