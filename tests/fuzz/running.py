"""Run a command in this process, and compare what it has written."""

import contextlib
import io
import json
import logging
import os
import random
import re
import resource
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState, GradientState
from threadpoolctl import threadpool_limits

from birthgpt.app.page import reply
from birthgpt.cli import main
from birthgpt.commands.confidence_report import RiskSettings
from birthgpt.commands.inquiry import Inquirer
from birthgpt.commands.loading import load_model_and_tokenizer
from birthgpt.evaluation.answering import DecodingSettings
from birthgpt.utils.errors import one_line
from birthgpt.utils.files import sha256_of

LOAD = "load"
"""Not a command: what every command does first with the folder of a model."""

PAGE = "page"
"""Not a command: what the page of `birthgpt app` shows about a question."""

PAGE_TAGS = set(
    "article br code dd details div dl dt em h2 h3 h4 i li ol p rect section small span strong summary svg table tbody "
    "td text th thead title tr ul b g line path path u sup sub abbr bdi mark figure figcaption".split()
)

EXTRA_MEMORY = 4 << 30
"""What a case may allocate, in bytes: an absurd size is an error, and does not end the process."""

NOT_COMPARED = {"settings.json", "run.json", "manifest.json", "trainer_state.json", ".birthgpt.json"}
"""Files with times, paths and hashes of such files."""

OF_THE_MACHINE = {"command", "hardware", "date", "versions"}


class TookTooLong(BaseException):
    """Not an Exception, so that no handler of the package takes it for a fault in a file."""


@dataclass(frozen=True)
class Ending:
    """How a command ended.

    Args:
        code: its exit code; None if it raised something else than SystemExit, or was too slow.
        out: what it printed.
        err: what it wrote to stderr.
        fault: the traceback, if it raised something.
        too_slow: whether it was stopped.
    """

    code: int | None
    out: str
    err: str
    fault: str = ""
    too_slow: bool = False

    @property
    def message(self) -> str:
        """The error message; empty if there is none."""
        return self.err[self.err.find("error: ") :].strip() if "error: " in self.err else ""


def run_command(arguments: Sequence[str], folder: Path, seconds: float) -> Ending:
    """Run `birthgpt`, `load` or `page` with these arguments in a working folder, for at most this time."""
    out, err = io.StringIO(), io.StringIO()
    code, fault, too_slow = None, "", False
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _undisturbed(folder):
        try:
            with _limited(seconds):
                {LOAD: load, PAGE: show_page}.get(arguments[0], main)(arguments)
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except TookTooLong:
            too_slow, fault = True, traceback.format_exc()
        except BaseException:
            fault = traceback.format_exc()
    return Ending(code, out.getvalue(), err.getvalue(), fault, too_slow)


def load(arguments: Sequence[str]) -> None:
    """Load a model, and print what it computes; an error is written as a command writes it."""
    try:
        model, tokenizer = load_model_and_tokenizer(arguments[1])
        inputs = tokenizer("Where was A born?⁇", return_tensors="pt")
        with torch.no_grad():
            print(inputs["input_ids"].tolist(), model.eval()(**inputs).logits.double().sum().item())
    except ValueError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(2)


def show_page(arguments: Sequence[str]) -> None:
    """Print what the page shows about a question; a question that becomes HTML or a template is a fault."""
    _, checkpoint, question = arguments
    risk = RiskSettings(max_risk=0.05)
    parts = reply(Inquirer(checkpoint, DecodingSettings(max_new_tokens=6), risk, 2), question, 0.05)
    for part in parts:
        html = PageReader()
        html.feed(part)
        html.close()
        assert not html.unknown, html.unknown
        assert not re.search(r"[{}`]|\$\{", part), "a template of Gradio"
        print(part)


class PageReader(HTMLParser):
    """Collects what a part of the page may not contain: foreign tags, scripts, links, open tags."""

    def __init__(self) -> None:
        super().__init__()
        self.unknown: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Only tags of the page, without anything that runs or loads."""
        self.unknown += [tag] if tag not in PAGE_TAGS else []
        self.unknown += [name for name, _ in attrs if name.startswith("on") or name in ("href", "src", "srcdoc")]

    def handle_comment(self, data: str) -> None:
        """The page has no comments."""
        self.unknown.append(data)


@contextlib.contextmanager
def _undisturbed(folder: Path) -> Iterator[None]:
    """Context in which a command finds the state of a new process, and leaves none behind."""
    AcceleratorState._reset_state(True)
    GradientState._reset_state()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    random.seed(0)
    before, variables, handlers = os.getcwd(), dict(os.environ), list(logging.root.handlers)
    logging.disable(logging.CRITICAL)
    os.chdir(folder)
    try:
        # the threads of a fit on a few rows wait for each other
        with warnings.catch_warnings(), threadpool_limits(1):
            warnings.simplefilter("ignore")
            yield
    finally:
        os.chdir(before)
        logging.disable(logging.NOTSET)
        # a command attaches a handler to the stderr of the case
        logging.root.handlers[:] = handlers
        if dict(os.environ) != variables:
            os.environ.clear()
            os.environ.update(variables)


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Context that raises TookTooLong after this time, and allocates at most `EXTRA_MEMORY`."""

    def stop(number: int, frame: Any) -> None:
        raise TookTooLong

    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, stop)
    if pages:
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + EXTRA_MEMORY, hard))
    # again every second: a library may swallow the first
    signal.setitimer(signal.ITIMER_REAL, seconds, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def contents(folder: Path) -> dict[str, Any]:
    """What a command has written that is not of its time and place: a hash, or the values of metrics, by file."""
    found: dict[str, Any] = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in NOT_COMPARED):
        name = file.relative_to(folder).as_posix()
        if file.name in ("metrics.json", "probe.json"):
            values = json.loads(file.read_text(encoding="utf-8"))
            found[name] = {key: value for key, value in values.items() if key not in OF_THE_MACHINE}
        else:
            found[name] = sha256_of(file)
    return found


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """The size and the time of change of each file."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}
