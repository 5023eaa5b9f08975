"""A lock on a folder or on a file, so that two programs never write into it at the same time.

The lock of a folder is one of the operating system, on the file `.birthgpt.lock` in the folder. It ends with its
process, also if that is killed, and holds for all machines that share the folder, if its file system has locks. The
file names host and process for the message to others. A file that a killed program has left behind locks nothing.

A program that finds a folder locked is refused, because a run takes long. A program that finds a file locked waits,
because a change of a file is short.
"""

import logging
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from birthgpt.utils.files import check_output_folder

try:
    import fcntl
except ImportError:
    # Windows has other locks: folders are not locked there
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

LOCK = ".birthgpt.lock"

_held: set[Path] = set()
"""The lock files of this process. It must not open them again: closing them would end its locks."""


@contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Context in which no other process can lock this folder, a folder in it or a folder around it.

    The folder is made if missing, and removed at the end if nothing was written into it.

    Raises:
        ValueError: another process has locked one of these folders, or this one cannot be written.
    """
    folder = Path(folder)
    path = folder.resolve() / LOCK
    if fcntl is None or path in _held:
        yield
        return
    if folder.is_file():
        raise ValueError(f"output_dir={folder} is a file: choose a folder")
    check_output_folder(folder)
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _take(path)
    except OSError as error:
        raise ValueError(f"output_dir={folder} cannot be written: {error.strerror}") from error
    _held.add(path)
    try:
        _check_around(path.parent)
        yield
    finally:
        _held.remove(path)
        path.unlink(missing_ok=True)
        os.close(lock)
        if is_new:
            with suppress(OSError):
                folder.rmdir()


_file_lock = threading.RLock()
"""Locks of the system are those of a process: its threads need their own."""


@contextmanager
def locked_file(path: str | Path) -> Iterator[None]:
    """Context in which no other process changes a file; it waits until others have ended their change.

    The lock is on the file `.NAME.lock` beside it, which is removed at the end, so the file itself may be replaced.

    Raises:
        ValueError: the folder cannot be written.
    """
    path = Path(path)
    with _file_lock:
        if fcntl is None:
            yield
            return
        lock_path = path.resolve().with_name(f".{path.name}.lock")
        try:
            lock_path.parent.mkdir(parents=True, exist_ok=True)
            lock = _wait(lock_path)
        except OSError as error:
            raise ValueError(f"{path} cannot be written: {error.strerror}") from error
        try:
            yield
        finally:
            lock_path.unlink(missing_ok=True)
            os.close(lock)


def contents(folder: Path) -> list[Path]:
    """What a folder contains, without its lock file."""
    return sorted(path for path in folder.iterdir() if path.name != LOCK)


def remove_old_lock(folder: Path) -> None:
    """Remove the file of a lock that has ended."""
    path = folder.resolve() / LOCK
    if path not in _held:
        path.unlink(missing_ok=True)


def _check_around(folder: Path) -> None:
    """Raise ValueError if another process has locked a folder in this folder, or a folder around it."""
    for path in [*folder.rglob(LOCK), *(parent / LOCK for parent in folder.parents)]:
        if path.resolve() not in _held and path.is_file():
            with suppress(OSError):
                os.close(_take(path, is_kept=True))


def _take(path: Path, *, is_kept: bool = False) -> int:
    """The descriptor of a lock file, which is locked for as long as it is open; with `is_kept`, its text stays."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_NOFOLLOW | (0 if is_kept else os.O_CREAT), 0o666)
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            owner = os.read(lock, 300).decode(errors="replace").strip() or "another process"
            os.close(lock)
            raise ValueError(
                f"{path.parent} is in use by {owner}: wait until it has ended, or choose another output_dir"
            ) from None
        except OSError as error:
            logger.warning(
                "%s cannot be locked on this file system (%s): let no other program use it", path.parent, error.strerror
            )
        if is_kept or _is_open_file(lock, path):
            break
        # its process has ended, and removed the file, before it was locked here
        os.close(lock)
    if not is_kept:
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"process {os.getpid()} on {platform.node()}\n".encode(), 0)
    return lock


def _wait(path: Path) -> int:
    """The descriptor of a lock file, which is locked for as long as it is open."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CREAT, 0o666)
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX)
        except OSError as error:
            logger.warning(
                "%s cannot be locked on this file system (%s): let no other program write it", path, error.strerror
            )
            return lock
        if _is_open_file(lock, path):
            return lock
        # another process has removed the file before it was locked here
        os.close(lock)


def _is_open_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
