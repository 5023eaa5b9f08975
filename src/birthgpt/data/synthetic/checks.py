"""Checks that several modules of this package make."""

import os
from collections.abc import Iterable
from pathlib import Path


def check_whole_number(field: str, value: object, lowest: int, highest: int) -> None:
    """Raise a ValueError that names the field, the value and the bounds, unless lowest <= value <= highest."""
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise ValueError(f"{field}: {value!r} is not a whole number from {lowest} to {highest}")


def checked_folder(output_dir: str | os.PathLike, file_names: Iterable[str]) -> Path:
    """The folder as a path; a ValueError if it is a file, or already contains one of the files, or shards of one."""
    folder = Path(output_dir)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output_dir: {folder} is not a folder; name another one")
    for name in file_names:
        path = folder / name
        shards = sorted(folder.glob(f"{path.stem}-*-of-*{path.suffix}"))
        # also a link that leads nowhere
        for existing in filter(os.path.lexists, (path, *shards)):
            raise ValueError(f"output_dir: {existing} exists already; remove it or name another folder")
    return folder
