"""
How the store reads files, makes directories, and explains what fails; how it writes is in `musicgen_cli.atomic`.

No name is followed if it is a symbolic link, except the store's own directory and what lies above it: where the store
is, is the user's choice.
"""

# Every system call is made through `os`, where a test can watch it and make it fail.
# ruff: noqa: PTH102, PTH208

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

from musicgen_cli import atomic
from musicgen_cli.errors import StoreError

OTHER_STORE = "`--store DIR` or MUSICGEN_STORE names another store"


@contextmanager
def explained(doing: str, root: Path) -> Iterator[None]:
    """Turn an `OSError` into a sentence: `doing` is what fails, as in `can't read '/store': permission denied`."""
    try:
        yield
    except OSError as err:
        path = root if err.filename is None else os.fsdecode(err.filename)
        reason = "a symbolic link is not followed" if err.errno == errno.ELOOP else (err.strerror or str(err)).lower()
        raise StoreError(f"can't {doing} {str(path)!r}: {reason}", hint=OTHER_STORE) from err


def open_to_read(path: Path) -> BufferedReader:
    """Open `path`, which must not be a symbolic link, for reading."""
    return open(path, "rb", opener=lambda _, flags: atomic.open_fd(path, flags))


def names(folder: Path) -> list[str]:
    """Return the names in a directory as they are now: the caller may remove what it is told of."""
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def make_directory(path: Path) -> None:
    """
    Make a directory, and what it lies in, unless it is there already.

    Either way the disk has its name when this returns: who made it may have died before making sure of that.
    """
    if path.parent != path and not path.parent.exists():
        make_directory(path.parent)
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    atomic.sync_directory(path.parent, follow=True)
