"""What every experiment declares, and what is saved of it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from matplotlib.figure import Figure

from birthgpt.utils.environment import environment_info

HOLDS, SHARPENED, REFUTED = "holds", "sharpened", "refuted"
VERDICTS = (HOLDS, SHARPENED, REFUTED)
FULL, SMALL = "full", "small"

Sizes = Mapping[str, Any]
"""Dimensions, numbers of samples and seeds, by name."""

Curves = dict[str, Any]
"""What was measured: numbers, lists and dictionaries, as JSON has them."""


@dataclass(frozen=True)
class Verdict:
    """What the measurement says about the claim.

    Args:
        word: one of `VERDICTS`.
        reason: the figures that decide it, in a sentence.
    """

    word: str
    reason: str

    def __post_init__(self):
        assert self.word in VERDICTS


@dataclass(frozen=True)
class Experiment:
    """An experiment.

    Args:
        text: the docstring of its file: a title, then paragraphs that begin with a word and a colon.
        sizes: the sizes of the published run.
        small: the sizes that are different in the small form, which takes seconds.
        measure: measures the curves. It draws all random numbers from the seeds in the sizes.
        judge: computes the verdict from the curves by the rule in `text`.
        draw: draws the curves into a figure.
    """

    text: str
    sizes: Sizes
    small: Sizes
    measure: Callable[[Sizes], Curves]
    judge: Callable[[Curves], Verdict]
    draw: Callable[[Figure, Curves], None]

    @property
    def title(self) -> str:
        """The first line of the docstring, without its full stop."""
        return self.text.split("\n")[0].rstrip(".")

    @property
    def paragraphs(self) -> list[str]:
        """The paragraphs after the title, each on one line."""
        return [" ".join(paragraph.split()) for paragraph in self.text.split("\n\n")[1:]]

    def sizes_of(self, scale: str) -> dict[str, Any]:
        """The sizes of the published run (`full`) or of the small form (`small`)."""
        assert self.small.keys() <= self.sizes.keys()
        return {**self.sizes, **(self.small if scale == SMALL else {})}


def run(name: str, experiment: Experiment, scale: str, command: str) -> dict[str, Any]:
    """Measure an experiment on one thread: its record, with all that is needed to repeat it."""
    sizes = experiment.sizes_of(scale)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    started = time.process_time()
    try:
        curves = rounded(experiment.measure(sizes))
    finally:
        torch.set_num_threads(threads)
    return {
        "name": name,
        "scale": scale,
        "sizes": sizes,
        "curves": curves,
        "verdict": asdict(experiment.judge(curves)),
        "cpu_seconds": round(time.process_time() - started, 1),
        **environment_info(),
        "command": command,
    }


def rounded(value: Any, digits: int = 5) -> Any:
    """Numbers with this many significant digits, keys as text, and tensors and tuples as lists, as JSON has them."""
    if isinstance(value, torch.Tensor):
        return rounded(value.tolist(), digits)
    if isinstance(value, Mapping):
        return {str(key): rounded(entry, digits) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(entry, digits) for entry in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value
