"""Write docs/settings.md from the declarations of the settings: python docs/make_settings.py"""

from dataclasses import MISSING, Field
from pathlib import Path
from typing import Any

from birthgpt.cli import COMMANDS, find_command
from birthgpt.model.settings import choices_of
from birthgpt.settings import grouped_settings
from birthgpt.utils.files import write_text
from birthgpt.utils.tables import markdown_table

PAGE = Path(__file__).with_name("settings.md")
HEAD = """# Settings

`python docs/make_settings.py` writes this file from the declarations in the code. Every command takes its settings on
the command line (`--name value`) and from a YAML file (`name: value`): see [training.md](training.md#settings). The
settings of the model are keywords of `BirthGPTConfig` too.
"""
COLUMNS = ("setting", "default", "allowed", "meaning")


def settings_page() -> str:
    """A section for each group of settings, with the commands that take it."""
    commands_of: dict[tuple, list[str]] = {}
    for command in COMMANDS:
        for title, entries in grouped_settings(find_command(command).settings).items():
            section = (title or command, tuple(map(row, entries)))
            commands_of.setdefault(section, []).append(command)
    return "\n\n".join([HEAD.strip(), *(write_section(*key, commands) for key, commands in commands_of.items())]) + "\n"


def write_section(title: str, rows: tuple, commands: list[str]) -> str:
    """A heading, the commands, and a table."""
    taken_by = ", ".join(f"`{command}`" for command in commands)
    table = markdown_table([dict(zip(COLUMNS, cells, strict=True)) for cells in rows], COLUMNS)
    return f"## {title}\n\nTaken by {taken_by}.\n\n{table}"


def row(entry: Field) -> tuple[str, ...]:
    """Name, default, allowed values and meaning of a setting."""
    allowed = ", ".join(f"`{choice}`" for choice in listed_choices(entry)) or entry.metadata["bounds"]
    meaning = entry.metadata["help"].replace("|", "\\|")
    return f"`{entry.name}`", default_of(entry), allowed, meaning


def listed_choices(entry: Field) -> tuple:
    """The choices of a setting, where they are few enough to list."""
    choices = choices_of(entry)
    return choices if len(choices) <= 8 else ()


def default_of(entry: Field) -> str:
    """The default as YAML has it; empty for none."""
    value: Any = entry.default if entry.default_factory is MISSING else entry.default_factory()
    if value is MISSING:
        return "*required*"
    if value is None:
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    write_text(PAGE, settings_page())
