"""Make cases, run them, and say in which class each of them ends."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from birthgpt.evaluation.calibration import CALIBRATION
from birthgpt.utils.tables import text_table

from .damage import damage_folder, damage_input_of_convert
from .inputs import mutate_input, mutate_question
from .mutation import (
    ALLOWED,
    CHANGED,
    FORBIDDEN,
    HANG,
    REFUSED,
    SAME,
    SILENT,
    SPOILED,
    TRACEBACK,
    UNNAMED,
    Mutation,
    harmless,
    must_be_refused,
)
from .running import LOAD, PAGE, Ending, contents, run_command, snapshot
from .settings import mutate_setting
from .world import ADAPTER, COMMANDS, FILES, FOLDERS, LOADED, World

SECONDS = 30
"""After this time a case hangs."""

LONGEST_MESSAGE = 1500
"""A longer one shows a whole file, in which nobody finds what is wrong."""

CHANGES: dict[str, set[str]] = {"resume": set(), "calibrate": {"manifest.json", ".birthgpt.json"}}
"""Commands that write into the folder of a model, and which of its files they change; `resume` any."""

PRINTS_TIMES = {"pretrain", "finetune", "resume"}


@dataclass(frozen=True)
class Report:
    """How a case ended."""

    number: int
    target: str
    text: str
    arguments: tuple[str, ...]
    outcome: str
    ending: Ending

    def __str__(self) -> str:
        detail = self.ending.fault.strip()[-3000:] or self.ending.message[:500] or self.ending.err.strip()[-300:]
        command = " ".join(self.arguments)
        return f"case {self.number}: {self.outcome}: {self.target}: {self.text}\n  {command}\n  {detail}"


class Driver:
    """Runs numbered cases of a seed in a world.

    Args:
        targets: the commands, and what is mutated.
    """

    def __init__(self, world: World, seed: int, targets: list[tuple[str, str]]):
        self.world, self.seed, self.targets = world, seed, targets
        self.result = cache(self._result)

    def run(self, numbers: Iterable[int]) -> Iterator[Report]:
        """The reports of these cases."""
        for number in numbers:
            yield self.run_case(number)

    def run_case(self, number: int) -> Report:
        """Mutate one thing, run one command, and compare."""
        rng = random.Random(f"{self.seed}-{number}")
        command, target = rng.choice(self.targets)
        kind = rng.choice(FOLDERS.get(command, LOADED)) if "{model}" in COMMANDS[command] else None
        right = self.result(command, kind)
        self.world.lay_out(command, kind)
        arguments = self.world.arguments(command)
        mutation = self._mutate(command, kind, target, arguments, rng)
        arguments = list(mutation.arguments or arguments)
        before = snapshot(self.world.case)
        ending = run_command(arguments, self.world.case / "here", SECONDS)
        outcome = self._classify(ending, mutation, command, right, before)
        if outcome == SILENT and ending.code == 0:
            printed, files = self._written(command, ending)
            names = {name for name in files.keys() | right[1].keys() if files.get(name) != right[1].get(name)}
            also = " and what it printed" if printed != right[0] else ""
            ending = replace(ending, fault=f"other than without the mutation: {sorted(names)}{also}")
        name = f"{command}: {kind if target == 'folder' else target}"
        return Report(number, name, mutation.text, tuple(arguments), outcome, ending)

    def _mutate(
        self, command: str, kind: str | None, target: str, arguments: list[str], rng: random.Random
    ) -> Mutation:
        case = self.world.case
        if target == "folder" and command == "convert":
            return damage_input_of_convert(case / "model", rng)
        if target == "folder":
            mutation = damage_folder(case / "model", rng, is_listed=kind not in ("plain", ADAPTER, "evaluated"))
            # nothing says whether an adapter is whole, so none is read
            return replace(mutation, allowed=must_be_refused()) if kind == ADAPTER else mutation
        if target == "question":
            return mutate_question(arguments, rng)
        if target == "setting":
            return mutate_setting(arguments[0], case, arguments, rng)
        mutation = mutate_input(target, case / FILES[target], arguments, rng)
        if command == "resume":
            # a run goes on only with what it began with, and names the setting
            names = (*mutation.names, "corpus_file" if target == "lines" else "train_file")
            return replace(mutation, allowed=mutation.allowed & harmless(), names=names)
        return mutation

    def _result(self, command: str, kind: str | None) -> Any:
        if kind == ADAPTER:
            return None, {}
        self.world.lay_out(command, kind)
        ending = run_command(self.world.arguments(command), self.world.case / "here", SECONDS)
        assert ending.code == 0, f"{command}, {kind}: {ending}"
        return self._written(command, ending)

    def _written(self, command: str, ending: Ending) -> Any:
        case = self.world.case
        out = case / "model" if command in CHANGES else case / "out"
        files = contents(out)
        # all other files of the folder are its input
        files = {CALIBRATION: files.get(CALIBRATION)} if command == "calibrate" else files
        return None if command in PRINTS_TIMES else ending.out, files

    def _is_right(self, command: str, ending: Ending, right: Any) -> bool:
        """Whether the result is that of the run without a mutation; other files may be beside it."""
        printed, files = self._written(command, ending)
        beside = files.keys() - right[1].keys() if command == "resume" else set()
        return (printed, {name: value for name, value in files.items() if name not in beside}) == right

    def _classify(
        self, ending: Ending, mutation: Mutation, command: str, right: Any, before: dict[str, tuple[int, int]]
    ) -> str:
        if ending.too_slow:
            return HANG
        message = ending.message
        is_one_line = "\n" not in message and len(message) <= LONGEST_MESSAGE
        if ending.fault or ending.code not in (0, 2) or (ending.code == 2 and not is_one_line):
            return TRACEBACK
        after = snapshot(self.world.case)
        changed = {Path(path).name for path, was in before.items() if after.get(path) != was}
        if command != "resume" and changed - CHANGES.get(command, set()):
            return SPOILED
        if ending.code == 2:
            return REFUSED if any(map(partial(_is_named, message), mutation.names)) else UNNAMED
        outcome = SAME if self._is_right(command, ending, right) else CHANGED
        return outcome if outcome in mutation.allowed else SILENT


def _is_named(message: str, name: str) -> bool:
    """Whether a message contains a name as it is, escaped, or its beginning; YAML reads `true` as True."""
    return any(spelling.casefold() in message.casefold() for spelling in (name, ascii(name)[1:-1], name[:100]))


def _targets() -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for command, arguments in COMMANDS.items():
        if command == LOAD:
            continue
        if command == PAGE:
            found += [(command, "question")] * 4
            continue
        if "{model}" in arguments:
            found += [(command, "folder")] * (3 if command == "resume" else 2)
        found += [(command, name) for name in FILES if f"{{{name}}}" in arguments]
        found += [(command, "setting")] * (1 if command == "resume" else 2)
    return found


TARGETS = _targets()
"""What is mutated: the command, and a file, its folder or a setting."""


def outcome_table(reports: Iterable[Report]) -> str:
    """The number of cases in each class, by target."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for report in reports:
        counts[report.target][report.outcome] += 1
        counts["total"][report.outcome] += 1
    order = sorted(name for name in counts if name != "total")
    classes = [*ALLOWED, *FORBIDDEN]
    rows = [{"target": name, **{kind: counts[name][kind] for kind in classes}} for name in [*order, "total"]]
    return text_table(rows, ["target", *classes])


def forbidden(reports: Iterable[Report]) -> list[Report]:
    """The cases that show a fault of the package."""
    return [report for report in reports if report.outcome in FORBIDDEN]


LOADING = [(LOAD, "folder")]
"""The files of a model alone: configuration, tokenizer, weights, adapter. A case takes a part of a second."""


def targets_of(commands: Iterable[str]) -> list[tuple[str, str]]:
    """What is mutated for some commands."""
    return [target for target in TARGETS if target[0] in set(commands)]


def new_driver(folder: Path, seed: int, targets: list[tuple[str, str]] = TARGETS) -> Driver:
    """A driver with its world in this folder."""
    return Driver(World(folder), seed, targets)
