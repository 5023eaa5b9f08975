"""Commands of the package, run in a folder, and noted as a user can repeat them."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from birthgpt.cli import find_command
from birthgpt.commands.run_metadata import read_run_metadata
from birthgpt.settings import parse_settings
from birthgpt.utils.files import save_json

TRAININGS = ("pretrain", "finetune")


@dataclass
class Runs:
    """Runs commands in a folder. A run that is there already is not repeated.

    Args:
        folder: the folder for people, models and answers.
        seed: the seed of people and trainings.
    """

    folder: Path
    seed: int
    commands: list[str] = field(default_factory=list, init=False)
    """The commands of the current row, as a user can run them."""
    seconds: float = field(default=0.0, init=False)
    """The time of all trainings of the current row, also of those that were run for an earlier one."""

    def start_row(self) -> None:
        """Forget the commands and the time of the row before."""
        self.commands, self.seconds = [], 0.0

    def run(self, command: str, name: str, seeded: bool = True, **settings: object) -> Path:
        """The output folder of a command, which is run unless it was run before. A stopped training goes on.

        Raises:
            ValueError: it was run with other settings before.
        """
        output = self.folder / name
        seed = {"seed": self.seed} if seeded else {}
        arguments = to_arguments({**settings, **seed, "output_dir": output})
        self.commands.append(shlex.join(["birthgpt", command, *arguments]))
        record = self.folder / f"{name}.arguments.json"
        if record.is_file():
            if json.loads(record.read_text(encoding="utf-8")) != arguments:
                raise ValueError(
                    f"{output} was made with other settings: remove {self.folder}, or give another runs_dir"
                )
        else:
            entry = find_command(command)
            stopped = command in TRAININGS and output.is_dir()
            resume = ["--resume_from_checkpoint", "latest"] if stopped else []
            entry.run(parse_settings(entry.settings, [*arguments, *resume]))
            record.parent.mkdir(parents=True, exist_ok=True)
            save_json(record, arguments)
        if (output / "run.json").is_file():
            metadata = read_run_metadata(output)
            assert metadata is not None
            self.seconds += metadata["seconds"]
        return output


def to_arguments(settings: Mapping[str, object]) -> list[str]:
    """`{"people": 100, "relations": ("a", "b")}` as `--people 100 --relations a b`."""
    arguments: list[str] = []
    for name, value in settings.items():
        values = value if isinstance(value, list | tuple) else [value]
        arguments += [f"--{name}", *map(str, values)]
    return arguments
