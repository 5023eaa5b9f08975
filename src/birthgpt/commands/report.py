"""A page about runs, in one file without network: leaderboard, curves, slices, confidence, answers, settings."""

from dataclasses import dataclass
from pathlib import Path

from birthgpt.commands.command import Command
from birthgpt.commands.report_data import report_data
from birthgpt.commands.report_runs import find_evaluations
from birthgpt.report.page import is_report, render
from birthgpt.settings import checked, setting
from birthgpt.utils.files import check_output_file, existing_paths, write_text


@checked
@dataclass(kw_only=True)
class PageSettings:
    """Write a page about runs and their evaluations: one HTML file that needs no network."""

    runs: list[str] = setting(
        help="folders of runs or of evaluations, folders that contain such folders, or files of metrics"
    )
    output: str = setting("report.html", "file of the page; an earlier report in it is replaced")
    title: str = setting("birthgpt report", "heading of the page")

    def validate_runs(self):
        """There is something to report about."""
        if not self.runs:
            raise ValueError("runs is empty: give the folder of at least one run, such as runs/quickstart")


def report(settings: PageSettings) -> Path:
    """Write the page; return its path.

    Raises:
        ValueError: a folder is no run, or has no evaluation; a file of a run is damaged; the page cannot be written.
    """
    check_output_file(
        settings.output,
        {"runs": [run for run in settings.runs if any(path.is_file() for path in existing_paths(run))]},
        is_own=is_report,
    )
    data = report_data(find_evaluations(settings.runs), settings.title)
    write_text(settings.output, render(data))
    return Path(settings.output)


def show_page(page: Path) -> None:
    """Print where the page is."""
    print(f"the report is {page} ({page.stat().st_size / 1e6:.1f} MB): open it in a browser")


COMMAND = Command(PageSettings, report, show_page, positional=("runs",), several_processes=False)
