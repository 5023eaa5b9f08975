"""Write files completely or not at all, and hash them."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from birthgpt.utils.errors import first_line


def write_text(path: str | Path, text: str) -> None:
    """Write a text file completely or not at all, by renaming a temporary file. Missing folders are created."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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
