"""Which files of a folder may be deleted: those that an earlier command wrote, according to its record.

A command that can be repeated in its folder leaves a record there, `.birthgpt.json`: its kind, and the names of the
files that it writes. To begin anew, the command deletes these files. Everything else in the folder stays. A folder
without a record of the same kind is never changed.
"""

import glob
import os
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Any

from birthgpt.utils.files import check_output_folder, existing_paths, read_json, save_json
from birthgpt.utils.locks import LOCK, contents, remove_old_lock

RECORD = ".birthgpt.json"


def check_output_is_not_input(output_dir: str | Path, **sources: str | Path | None) -> None:
    """Raise ValueError if a folder is or contains a file or checkpoint that its command reads.

    Args:
        output_dir: the folder that is emptied.
        sources: by the name of its setting, a path or a glob pattern. A name on the Hub matches no path.
    """
    folder = Path(output_dir).resolve()
    for name, source in sources.items():
        for path in existing_paths(source):
            if folder in (path.resolve(), *path.resolve().parents):
                raise ValueError(
                    f"output_dir={output_dir} would be emptied, but contains {name}={source}: choose another"
                )


def check_may_empty(folder: Path, kind: str) -> None:
    """Raise ValueError unless a command of this kind may delete its files in the folder.

    It may if the folder is missing or empty, or if it has a record of this kind. It may never if the folder is, or
    contains, the working folder, or cannot be written.
    """
    if os.path.lexists(folder) and not folder.is_dir():
        raise ValueError(f"output_dir={folder} is not a folder: choose another")
    check_output_folder(folder)
    if not folder.is_dir() or not contents(folder):
        return
    working = Path.cwd().resolve()
    if folder.resolve() in (working, *working.parents):
        raise ValueError(f"output_dir={folder} is or contains the working folder: choose another")
    found = _read_record(folder)["kind"]
    if found != kind:
        written = f"was written by another command ({found})" if found else f"has no record ({RECORD}) of it"
        raise ValueError(
            f"output_dir={folder} is not replaced, because it is not an earlier {kind}: it {written}; "
            "remove it yourself, or choose another"
        )


def record_files(folder: Path, kind: str, names: Iterable[str] = (), folders: Iterable[str] = ()) -> None:
    """Add to the record of a folder, before the files are written. Missing folders are created.

    Args:
        kind: what the folder is, such as `run`; a record of another kind is replaced.
        names: files or glob patterns of files, relative to the folder.
        folders: subfolders that have records of their own.
    """
    before = _read_record(folder)
    if before["kind"] != kind:
        before = {"files": [], "folders": []}
    # files that were removed since, such as old checkpoints, would make the list longer and longer
    kept = [name for name in before["files"] if any(_matches(folder, name)) or glob.escape(name) != name]
    files = sorted({*kept, *names})
    subfolders = sorted({*before["folders"], *folders})
    save_json(folder / RECORD, {"kind": kind, "files": files, "folders": subfolders})


def remove_recorded(folder: Path, kind: str) -> None:
    """Delete the files that the record of a folder names, and the subfolders that are then empty.

    Links are removed, not what they point to. Everything else stays, and so does the folder: it may be a mount point.

    Raises:
        ValueError: the folder may not be emptied (`check_may_empty`).
    """
    check_may_empty(folder, kind)
    if folder.is_dir():
        _remove_recorded(folder)


def recorded_files(folder: Path) -> list[str]:
    """The files that exist and are in the record of a folder, relative to it, sorted."""
    found = {path for name in _read_record(folder)["files"] for path in _matches(folder, name)}
    return sorted(path.relative_to(folder).as_posix() for path in found)


def check_all_recorded(subfolder: Path, folder: Path) -> None:
    """Raise ValueError for a file in a subfolder that the record of a folder does not name: it would not be deleted."""
    recorded = {RECORD, LOCK, *recorded_files(folder)}
    for file in sorted(subfolder.rglob("*")):
        if not file.is_dir() and file.relative_to(folder).as_posix() not in recorded:
            raise ValueError(f"{file} is not of the run that wrote {folder}: move it, or choose another folder")


def move_files(source: Path, target: Path, *, last: str = "config.json") -> None:
    """Move all files of a folder into another one, and remove the first. A folder without `last` cannot be loaded."""
    (target / last).unlink(missing_ok=True)
    for file in sorted(source.iterdir(), key=lambda file: file.name == last):
        os.replace(file, target / file.name)
    source.rmdir()


def _remove_recorded(folder: Path) -> None:
    record = _read_record(folder)
    emptied = set()
    for name in record["files"]:
        for path in list(_matches(folder, name)):
            path.unlink()
            emptied |= set(_parents_inside(path, folder))
    for name in record["folders"]:
        subfolder = folder / name
        if _is_inside(subfolder, folder) and subfolder.is_dir() and not subfolder.is_symlink():
            _remove_recorded(subfolder)
            remove_old_lock(subfolder)
            emptied |= {subfolder, *_parents_inside(subfolder, folder)}
    (folder / RECORD).unlink(missing_ok=True)
    for place in sorted(emptied, key=lambda path: -len(path.parts)):
        if not any(place.iterdir()):
            place.rmdir()


def _read_record(folder: Path) -> dict[str, Any]:
    """The record of a folder; its kind is None if there is none, or one that cannot be read."""
    try:
        record = read_json(folder / RECORD) if (folder / RECORD).is_file() else {}
        return {"kind": record["kind"], "files": _names(record["files"]), "folders": _names(record["folders"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {"kind": None, "files": [], "folders": []}


def _names(names: list[str]) -> list[str]:
    """The names without those that lead out of the folder.

    Raises:
        TypeError: it is no list of strings.
    """
    if not isinstance(names, list):
        raise TypeError
    return [name for name in names if (parts := PurePath(name).parts) and ".." not in parts and parts[0] != "/"]


def _matches(folder: Path, name: str) -> Iterable[Path]:
    """The files and links in a folder that a recorded name means; a linked subfolder is not followed."""
    for path in folder.glob(name):
        if (path.is_symlink() or path.is_file()) and _is_inside(path, folder):
            yield path


def _is_inside(path: Path, folder: Path) -> bool:
    """Whether no link leads from the folder to the parent of the path."""
    return path.parent.resolve().is_relative_to(folder.resolve())


def _parents_inside(path: Path, folder: Path) -> Iterable[Path]:
    return (parent for parent in path.parents if parent != folder and parent.is_relative_to(folder))
