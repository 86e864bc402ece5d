"""
Open files for reading, make directories durably, and turn an `OSError` into a message; `atomic` writes files.

Symbolic links are not followed, except in the path of the store's own directory, which the user chooses.
"""

# Every system call is made through `os`, so that tests can observe it and make it fail.
# ruff: noqa: PTH102, PTH208

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

from musicgen_cli import atomic, foreign
from musicgen_cli.errors import StoreError, system_reason

OTHER_STORE = "`--store DIR` or MUSICGEN_STORE names another store"


@contextmanager
def explained(action: str, root: Path, *, hint: str = OTHER_STORE) -> Iterator[None]:
    """
    Turn an `OSError` into a `StoreError` such as `can't read '/store': permission denied`.

    Args:
        action: What failed: `read` or `write to`.
        root: The store's directory, which is named where the `OSError` names no path.
        hint: What to do about it.
    """
    try:
        yield
    except OSError as err:
        path = root if err.filename is None else os.fsdecode(err.filename)
        reason = "a symbolic link is not followed" if err.errno == errno.ELOOP else system_reason(err)
        raise StoreError(f"can't {action} {str(path)!r}: {reason}", hint=hint) from err


def open_to_read(path: Path) -> BufferedReader:
    """Open `path`, which must be a regular file and no symbolic link, for reading."""
    return foreign.open_file(path, follow=False)


def names(folder: Path) -> list[str]:
    """Return the names in a directory, none if it doesn't exist. It is a list, so that the caller may delete files."""
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def nearest_directory(path: Path) -> Path:
    """
    Return `path`, or if it doesn't exist the nearest of its parents that does.

    Raises:
        OSError: That isn't a directory, or what is there can't be told.
    """
    while True:
        try:
            path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            path = path.parent
            continue
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
        return path


def make_directory(path: Path) -> None:
    """
    Make a directory and its parents, unless they exist.

    The directory's name is durable when this returns, even if the directory existed: the process that made it may have
    died before it synced the name.
    """
    if path.parent != path and not path.parent.exists():
        make_directory(path.parent)
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    atomic.sync_directory(path.parent, follow=True)


def keeps_modes(folder: Path) -> bool:
    """
    Tell whether the file system of a folder keeps permissions; CIFS, FAT and mounts of a bucket don't.

    It is tried with a file, which is removed again. Where none can be made, the file system counts as one that does.
    """
    path = folder / f"{atomic.TEMPORARY}{os.getpid()}-modes"
    try:
        atomic.write_new(path, b"", mode=atomic.READ_ONLY, durable=False)
        return stat.S_IMODE(path.lstat().st_mode) == atomic.READ_ONLY
    except OSError:
        return True
    finally:
        atomic.discard(path)
