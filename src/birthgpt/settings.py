"""Settings of a command, from a YAML file and the command line.

The settings of a command are a dataclass. Each field is a setting (`setting`) or a group, which is another such
dataclass. Names are unique within a command, so files and flags are flat:

    @checked
    @dataclass
    class ProbeSettings:
        questions: QuestionSettings
        batch_size: int = setting(256, "prompts read at a time", min=1)

    settings = parse_settings(ProbeSettings, ["--config", "wiki/probe", "--batch_size", "64"])

The command line overrides the file. The file overrides the file that it names as `defaults`, which overrides the
defaults of the dataclass. Values in a file are parsed like values on the command line, so `6e-3` is a number.
"""

import copy
import dataclasses
import sys
from argparse import SUPPRESS, ArgumentTypeError, HelpFormatter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import MISSING, Field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin

import yaml
from transformers import HfArgumentParser
from transformers.hf_argparser import string_to_bool

from birthgpt.model.settings import MAX_SEED, Number, checked, did_you_mean, setting, settings_of, unknown_choice
from birthgpt.utils.files import check_input_file
from birthgpt.utils.strict_yaml import load_yaml

__all__ = [
    "MAX_SEED",
    "CollectedSettings",
    "Number",
    "checked",
    "collect_settings",
    "declared_settings",
    "flatten_settings",
    "grouped_settings",
    "make_settings",
    "parse_settings",
    "setting",
    "settings_of",
    "with_default",
]

Settings = TypeVar("Settings")

CONFIGS = [Path(__file__).parent / "configs", Path(__file__).parents[2] / "configs"]
"""The folders that contain the configurations: in the installed package, and in a checkout."""


class CollectedSettings:
    """Base of a class that `collect_settings` fills."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """A collected setting. A type checker cannot know its name, because no class statement contains it."""


def collect_settings(*sources: type) -> Callable[[type[Settings]], type[Settings]]:
    """Class decorator: make a dataclass of the class's own settings, followed by the settings of other classes.

        @collect_settings(BirthGPTConfig)
        class ModelSettings(CollectedSettings):
            gradient_checkpointing: bool = setting(False, "recompute activations to save memory")

    Args:
        sources: dataclasses, in order. A setting that several of them inherit is taken once.
    """

    def collect(cls: type[Settings]) -> type[Settings]:
        kinds = dict(cls.__annotations__)
        for source in sources:
            for entry in settings_of(source):
                if entry.metadata["on_command_line"] and entry.name not in kinds:
                    kinds[entry.name] = entry.type
                    setattr(cls, entry.name, _copy(entry, group=_owner(source, entry.name).__name__))
        cls.__annotations__ = kinds
        # kw_only, because a field without a default may follow a field with a default
        return checked(dataclasses.dataclass(kw_only=True)(cls))

    return collect


def with_default(source: type, name: str, default: Any) -> Any:
    """The setting of another dataclass, with a default of its own."""
    made = setting(default)
    made.metadata = next(entry.metadata for entry in settings_of(source) if entry.name == name)
    return made


def make_settings(settings_class: type[Settings], **values: Any) -> Settings:
    """Return the settings of a command from flat keywords, without the names of groups.

    Raises:
        ValueError: a setting does not exist, is missing, or has a value that is not allowed.
    """
    declared = declared_settings(settings_class)
    for name in values:
        if name not in declared:
            raise _unknown_setting(name, settings_class, settings_class.__name__)
    for name, entry in declared.items():
        if name not in values and entry.default is entry.default_factory is MISSING:
            raise ValueError(f"{settings_class.__name__}: {name} must be given: {entry.metadata['help']}")
    return _build(settings_class, values)


def _build(settings_class: type[Settings], values: dict[str, Any]) -> Settings:
    groups: dict[str, Any] = {name: _build(group, values) for name, group in _groups_in(settings_class)}
    own = {entry.name: values[entry.name] for entry in settings_of(settings_class) if entry.name in values}
    return settings_class(**groups, **own)


def declared_settings(settings_class: type) -> dict[str, Field]:
    """All settings of a command by name, including the settings in groups."""
    found: dict[str, Field] = {}
    for _, group in _groups(settings_class):
        for entry in settings_of(group):
            assert entry.name not in found, f"{settings_class.__name__} declares {entry.name} twice"
            found[entry.name] = entry
    return found


def grouped_settings(settings_class: type) -> dict[str, list[Field]]:
    """The settings of a command by group, such as `corpus` or `Performer`; the key of its own settings is ""."""
    by_title: dict[str, list[Field]] = {}
    titles: dict[str, str] = {}
    for name, group in _groups(settings_class):
        for entry in settings_of(group):
            title = entry.metadata.get("group", name).removesuffix("Config").removeprefix("Base") or name
            # the settings of the class `Objective` belong to the group `objective`
            by_title.setdefault(titles.setdefault(title.lower(), title), []).append(entry)
    return by_title


def flatten_settings(settings: Any) -> dict[str, Any]:
    """The values of all settings by name, including the settings in groups."""
    found: dict[str, Any] = {}
    for entry in dataclasses.fields(settings):
        value = getattr(settings, entry.name)
        found |= flatten_settings(value) if dataclasses.is_dataclass(value) else {entry.name: value}
    return found


def parse_settings(
    settings_class: type[Settings],
    arguments: Sequence[str] | None = None,
    *,
    prog: str | None = None,
    file_of: type | None = None,
) -> Settings:
    """Return the settings from `--config` and the command line.

    Args:
        settings_class: the dataclass of a command.
        arguments: the command line; `sys.argv` if None.
        prog: the name of the program in `--help`; the name of the script if None.
        file_of: the dataclass of another command, whose files can be read too; what only that command has is skipped.

    Raises:
        ValueError: a file is missing or is not a flat YAML mapping; a setting does not exist (the message suggests the
            nearest name), is missing, or has a value that is not allowed.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = _Parser(
        _argument_groups(settings_class),  # type: ignore[arg-type]
        allow_abbrev=False,
        description=settings_class.__doc__,
        prog=prog,
        usage="%(prog)s [--config FILE.yaml] [--setting value …]",
        formatter_class=_HelpFormatter,
    )
    config_help = "settings, one per line: a file, or a name such as wiki/pretrain"
    parser.add_argument("--config", metavar="FILE.yaml", help=config_help)
    config, arguments = _pop_config(arguments)
    if _pop_config(arguments)[0] is not None:
        raise ValueError("--config is given twice: give one file; the command line overrides its settings")
    if config is not None:
        skipped = declared_settings(file_of) if file_of is not None else {}
        arguments = _as_arguments(read_config(config), config, settings_class, skipped) + arguments
    *groups, _, unknown = parser.parse_args_into_dataclasses(
        arguments, return_remaining_strings=True, look_for_args_file=False
    )
    if unknown:
        raise _unknown_setting(unknown[0].lstrip("-").split("=")[0], settings_class, "command line")
    return _build(settings_class, {name: value for group in groups for name, value in vars(group).items()})


def read_config(config: str) -> dict[str, Any]:
    """The settings in a YAML file, which override those of the file that it names as `defaults`, and so on.

    Args:
        config: a path, or the name of a configuration of this package, such as `wiki/pretrain`.
    """
    path = find_config(config)
    files, values = [path.resolve()], _read_yaml(path)
    while (base := values.pop("defaults", None)) is not None:
        base_path = path.parent / base
        check_input_file(base_path)
        if not base_path.is_file():
            raise ValueError(f"{path}: defaults: there is no file {base_path}")
        if base_path.resolve() in files:
            raise ValueError(f"{path}: defaults: {base_path} needs this file for its own defaults: name another file")
        path = base_path
        files, values = [*files, path.resolve()], _read_yaml(path) | values
    return values


def find_config(config: str) -> Path:
    """The file of a configuration, given by path or by name.

    Raises:
        ValueError: no file has this path or name.
    """
    check_input_file(config)
    if Path(config).is_file():
        return Path(config)
    name = config.removesuffix(".yaml").removeprefix("configs/")
    names: list[str] = []
    for folder in CONFIGS:
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
        names += [path.relative_to(folder).with_suffix("").as_posix() for path in sorted(folder.glob("*/*.yaml"))]
    hint = did_you_mean(name, names)
    raise ValueError(f"{config}: there is no such configuration file{f'; {hint}' if hint else ''}")


class _Parser(HfArgumentParser):
    """Raises a ValueError of one line, instead of printing the usage of a hundred settings first."""

    def error(self, message: str):
        raise ValueError(f"{message} (--help lists the settings)")

    def _check_value(self, action, value):
        if action.choices is not None and value not in action.choices:
            raise unknown_choice(action.dest, value, action.choices)

    def parse_known_args(self, args=None, namespace=None):
        for action in self._actions:
            # a list with a default may be empty: `--ngram_orders` without a number means no n-grams
            if action.nargs == "+" and not action.required:
                action.nargs = "*"
            # HfArgumentParser adds `--no_shuffle` next to `--shuffle false`: only the second is shown
            if action.option_strings[0].startswith("--no_"):
                action.help = SUPPRESS
        return super().parse_known_args(args, namespace)


class _HelpFormatter(HelpFormatter):
    """Shows one spelling of each flag, the kind of its value, and its default if it has one."""

    def _format_action_invocation(self, action) -> str:
        flag = next(option for option in action.option_strings if option.startswith("--"))
        return f"{flag} {_kind_of_value(action)}".strip()

    def _get_help_string(self, action) -> str:
        has_default = action.default not in (None, SUPPRESS, [])
        return f"{action.help} (default: %(default)s)" if has_default else action.help


def _kind_of_value(action) -> str:
    """The placeholder after a flag in `--help`, such as `INTEGER`."""
    if action.nargs == 0 or action.metavar is not None:
        return action.metavar or ""
    if action.choices is not None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    kinds = {int: "INTEGER", float: "NUMBER", str: "TEXT", string_to_bool: "{true,false}", _parse_mapping: "MAPPING"}
    return kinds[action.type] + (" …" if action.nargs == "*" else "")


def _groups(settings_class: type, name: str = "") -> Iterator[tuple[str, type]]:
    """The class itself and all groups in it, each with its name."""
    yield name, settings_class
    for group_name, group in _groups_in(settings_class):
        yield from _groups(group, group_name)


def _groups_in(settings_class: type) -> Iterator[tuple[str, type]]:
    """The fields that are groups, each with its name."""
    for entry in dataclasses.fields(settings_class):
        if isinstance(entry.type, type) and dataclasses.is_dataclass(entry.type):
            yield entry.name, entry.type


def _argument_groups(settings_class: type) -> list[type]:
    """A plain dataclass for each heading in `--help`, as HfArgumentParser needs it."""
    return [
        dataclasses.make_dataclass(
            "Arguments",
            [(entry.name, _argument_type(entry), _argument(entry)) for entry in entries],
            kw_only=True,
            namespace={"_argument_group_name": title or "settings"},
        )
        for title, entries in grouped_settings(settings_class).items()
    ]


def _argument(entry: Field) -> Any:
    """A field with only a default and help, because HfArgumentParser passes all metadata to argparse."""
    choices = ", ".join(entry.metadata["choices"] or ())
    # a long list of choices, such as all activations, is only in the error message for a wrong value
    allowed = [entry.metadata["bounds"], f"one of {choices}" if 0 < len(choices) < 100 else ""]
    metadata = {"help": "; ".join(filter(None, [entry.metadata["help"].replace("%", "%%"), *allowed]))}
    default: dict[str, Any] = {"default": entry.default, "default_factory": entry.default_factory}
    if entry.default is not MISSING and get_origin(_argument_type(entry)) is list:
        # HfArgumentParser reads the default of a list only from a factory
        default = {"default_factory": lambda: entry.default}
    return dataclasses.field(**default, metadata=metadata)


def _argument_type(entry: Field) -> Any:
    """The type that argparse converts to: float for numbers, a list for one or several values, YAML for mappings."""
    kinds = (set(get_args(entry.type)) or {entry.type}) - {type(None)}
    if kinds == {int, float}:
        return float
    if kinds == {Number}:
        return list[float]
    if dict in kinds:
        return _parse_mapping
    if kinds == {str, list[str]}:
        return list[str]
    return entry.type


def _parse_mapping(text: str) -> dict:
    try:
        value = load_yaml(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
    if not isinstance(value, dict):
        raise ArgumentTypeError(f"{text!r} is not a mapping, such as {{name: value}}")
    return value


def _pop_config(arguments: list[str]) -> tuple[str | None, list[str]]:
    for index, argument in enumerate(arguments):
        if argument == "--config":
            if index + 1 == len(arguments):
                raise ValueError("--config needs a YAML file")
            return arguments[index + 1], arguments[:index] + arguments[index + 2 :]
        if argument.startswith("--config="):
            return argument.removeprefix("--config="), arguments[:index] + arguments[index + 1 :]
    return None, arguments


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = load_yaml(path.read_text(encoding="utf-8")) or {}
    # also for bytes that are not UTF-8
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected one `key: value` per line")
    return values


def _as_arguments(
    values: dict[str, Any], config: str, settings_class: type, skipped: Collection[str] = ()
) -> list[str]:
    """The content of a file as a command line, without the skipped settings."""
    known, arguments = declared_settings(settings_class), []
    for key, value in values.items():
        if key not in known and key in skipped:
            continue
        if key not in known:
            raise _unknown_setting(key, settings_class, config)
        if isinstance(value, dict) and _argument_type(known[key]) is not _parse_mapping:
            raise ValueError(f"{config}: {key} is a mapping: settings are flat, one `key: value` per line")
        if value is not None:
            several = value if isinstance(value, list) else [value]
            arguments += [f"--{key}", *map(_as_argument, several)]
    return arguments


def _as_argument(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True) if isinstance(value, dict) else str(value)


def _unknown_setting(key: object, settings_class: type, where: str) -> ValueError:
    hint = did_you_mean(key, declared_settings(settings_class))
    return ValueError(f"{where}: {key!r} is not a setting of this command{f'; {hint}' if hint else ''}")


def _owner(source: type, name: str) -> type:
    """The class that declares a field."""
    return next(cls for cls in source.__mro__ if name in cls.__dict__.get("__annotations__", {}))


def _copy(entry: Field, **metadata: Any) -> Field:
    other = copy.copy(entry)
    other.metadata = MappingProxyType({**entry.metadata, **metadata})
    return other
