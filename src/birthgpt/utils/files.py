"""Write files completely or not at all, and hash them."""

import glob
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from birthgpt.utils.errors import first_line


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
        found = map(Path, (str(source), *glob.iglob(str(source), recursive=True)))
        yield from (path for path in found if path.exists())


def read_json(path: str | Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ValueError: the file cannot be read, is not UTF-8 or not JSON, or contains something other than an object.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{path} cannot be read: it is nested too deeply") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or first_line(error)}") from None
    except ValueError as error:
        kind = "UTF-8" if isinstance(error, UnicodeDecodeError) else "JSON"
        raise ValueError(f"{path} is damaged: it is not {kind} ({first_line(error)})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: it contains {type(content).__name__} instead of an object")
    return content


def sha256_of(path: str | Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
