"""Write files completely or not at all, and hash them."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from birthgpt.utils.errors import first_line

_WILDCARDS = re.compile(r"[*?[]")


def write_text(path: str | Path, text: str) -> None:
    """Write a text file completely or not at all, by renaming a temporary file. Missing folders are created.

    Raises:
        ValueError: the path is something other than a regular file, or it cannot be written.
    """
    path = Path(path)
    check_regular(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def check_output_file(
    path: str | Path, inputs: Mapping[str, Any], *, is_own: Callable[[Path], bool] | None = None
) -> None:
    """Check, before the work, that a file can be written, and that nothing else is lost by it.

    Args:
        path: the file; it may exist already.
        inputs: what the command reads, by the name of the setting: a path, a glob pattern, a list of them, or None.
        is_own: whether an existing file is of the kind that is written; None if its name says so.

    Raises:
        ValueError: the path is a link, a folder or a device; it is an input; it is a file of another kind; its folder
            cannot be written.
    """
    path = Path(path)
    check_regular(path)
    for name, sources in inputs.items():
        for source in sources if isinstance(sources, list) else [sources]:
            if path.exists() and any(file.samefile(path) for file in existing_paths(source)):
                raise ValueError(f"{path} would be replaced, but is the input {name}={source}: choose another")
    if is_own is not None and path.exists() and not is_own(path):
        raise ValueError(f"{path} exists and is a file of another kind: it is not replaced; choose another")
    check_output_folder(path.parent)


def check_output_folder(folder: str | Path) -> None:
    """Raise ValueError unless a folder can be written, or can be made."""
    folder = Path(folder)
    existing = folder.absolute()
    # a link that leads nowhere is in the way
    while not os.path.lexists(existing):
        existing = existing.parent
    if not existing.is_dir():
        raise ValueError(f"{folder} cannot be written: {existing} is not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(f"{folder} cannot be written: there is no permission to write into {existing}")


def check_regular(path: Path) -> None:
    """Raise ValueError if a path is a link, a folder, a device or a pipe, which a file would replace."""
    if path.is_symlink():
        raise ValueError(f"{path} is a link, and is not replaced: give the file itself")
    if os.path.lexists(path) and not path.is_file():
        raise ValueError(f"{path} is not a regular file, and is not replaced: choose another")


def save_json(path: str | Path, data: Any) -> None:
    """Write a JSON file completely or not at all. Missing folders are created.

    Raises:
        ValueError: `data` contains something that JSON cannot express, such as NaN or infinity.
    """
    try:
        text = json.dumps(data, ensure_ascii=False, indent=2, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: this cannot be written as JSON ({error})") from error
    write_text(path, text + "\n")


def existing_paths(source: str | Path | None) -> Iterator[Path]:
    """The paths that a name, a path or a glob pattern means; none for None and for a name on the Hub."""
    if source is not None:
        yield from (path for path in (Path(source), *matching_paths(str(source))) if path.exists())


def matching_paths(pattern: str) -> list[Path]:
    """The paths that a glob pattern matches, in the order of their names; none for a pattern without wildcards.

    `**` is any number of folders, but no link to a folder: it may lead back to the folder that it is in.
    """
    if not _WILDCARDS.search(pattern):
        return []
    anchor = Path(pattern).anchor
    given = Path(pattern).relative_to(anchor)
    # pathlib takes two stars at the end for folders alone
    given = given / "*" if given.name == "**" else given
    try:
        found = sorted(Path(anchor).glob(str(given)))
    except ValueError as error:
        raise ValueError(f"{pattern} is not a pattern of files: {first_line(error)}") from None
    # a wildcard does not match hidden files, as in a shell
    return [
        path for path in found if all(not part.startswith(".") or part in (*given.parts, "..") for part in path.parts)
    ]


def check_input_file(path: str | Path) -> None:
    """Raise ValueError if a path is a device, a pipe or a socket: reading it may never end."""
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ValueError(f"{path} is a device or a pipe, and cannot be read: give a regular file")


def check_input_folder(folder: str | Path) -> None:
    """Raise ValueError if a folder contains a device, a pipe or a socket; a name on the Hub is not a folder."""
    for path in Path(folder).rglob("*"):
        check_input_file(path)


def read_text(path: str | Path, what: str) -> str:
    """The text of a file; a ValueError that names it and `what` it should contain, such as `the templates`."""
    check_input_file(path)
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {what} cannot be read ({error})") from None


def read_json(path: str | Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ValueError: the file cannot be read, is not UTF-8 or not JSON, or contains something other than an object.
    """
    content = _read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: it contains {type(content).__name__} instead of an object")
    return content


def read_json_list(path: str | Path) -> list:
    """The list in a JSON file; a ValueError as in `read_json`, or for something other than a list."""
    content = _read_json(path)
    if not isinstance(content, list):
        raise ValueError(f"{path} is damaged: it contains {type(content).__name__} instead of a list")
    return content


def _read_json(path: str | Path) -> Any:
    check_input_file(path)
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        # an escape such as \ud800 is half a character, which no file of text can contain
        json.dumps(content, ensure_ascii=False).encode()
        return content
    except RecursionError:
        raise ValueError(f"{path} cannot be read: it is nested too deeply") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or first_line(error)}") from None
    except ValueError as error:
        kind = "UTF-8" if isinstance(error, UnicodeError) else "JSON"
        raise ValueError(f"{path} is damaged: it is not {kind} ({first_line(error)})") from None


def sha256_of(path: str | Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
