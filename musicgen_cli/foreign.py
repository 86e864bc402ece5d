"""
Read files that somebody else may have made, and tell who could have changed them.

A file of a model, a store, a cache or a config may be anything: a pipe that never ends an open, a device that never
ends a read, a sparse file of 50 GB, or another user's. So a file is opened without waiting, must be a regular one, and
is read up to a limit that its caller names.

Windows refuses to open or rename a file that another process has opened in its own way, for instance while it replaces
that file: `retried` waits for that process.
"""

# Every system call is made through `os`, so that tests can observe it and make it fail.

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from collections.abc import Callable, Iterable
from io import BufferedReader
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_FLAGS = 0
for _name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY", "O_NOINHERIT"):
    _FLAGS |= getattr(os, _name, 0)
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)

_RETRIED_S = 1.0  # how long another process may have a file open that Windows then refuses
_RETRY_S = 0.01

ROOT = 0  # the user id of the one who can change any file anyway
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def open_fd(path: Path, flags: int, mode: int = 0o600, *, follow: bool = True) -> int:
    """
    Open a regular file, or make one, as `os.open` does; a pipe or a device is refused instead of waited for.

    Args:
        path: The file.
        flags: Of `os.open`.
        mode: Of a new file, less the umask.
        follow: Whether it may be a symbolic link.

    Raises:
        OSError: It can't be opened, or is no regular file.
    """
    if not follow and not _NO_FOLLOW:
        refuse_link(path)
    if sys.platform == "win32" and path.is_dir():  # the system says that permission is denied, which may pass
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    fd = retried(lambda: os.open(path, flags | _FLAGS | (0 if follow else _NO_FOLLOW), mode))
    try:
        _check_regular(fd, path)
    except OSError:
        os.close(fd)
        raise
    return fd


def retried(call: Callable[[], T]) -> T:
    """
    Return what a function returns; on Windows, call it again for up to a second while it raises `PermissionError`.

    That is what a file gives that another process has open. A file without permission gives the same, and only costs
    the second.
    """
    deadline = time.monotonic() + _RETRIED_S
    while True:
        try:
            return call()
        except PermissionError:
            if sys.platform != "win32" or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_S)


def refuse_link(path: Path) -> None:
    """Raise `OSError` (ELOOP) if `path` is a symbolic link, as an open that doesn't follow links does."""
    if path.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


def open_file(path: Path, *, follow: bool = True) -> BufferedReader:
    """Open a regular file for reading, as `open_fd` does."""
    return open(path, "rb", opener=lambda _, flags: open_fd(path, flags, follow=follow))


def read(path: Path, limit: int, *, follow: bool = True) -> bytes:
    """
    Return all bytes of a regular file.

    Args:
        path: The file.
        limit: The most bytes that such a file can have.
        follow: Whether it may be a symbolic link.

    Raises:
        OSError: It can't be read, is no regular file, or is larger.
    """
    with open_file(path, follow=follow) as file:
        return read_all(file, limit)


def read_all(file: BufferedReader, limit: int) -> bytes:
    """
    Return all bytes of an open file, as `read` does.

    Raises:
        OSError: It can't be read, or is larger than `limit`.
    """
    if os.fstat(file.fileno()).st_size > limit:
        raise _too_large(file, limit)
    data = file.read(limit + 1)  # the limit holds for a file that grows meanwhile, too
    if len(data) > limit:
        raise _too_large(file, limit)
    return data


def who_else(status: os.stat_result, *, trusted: Iterable[int] = ()) -> str | None:
    """
    Say who else than this user could have written a file or can write to a folder: `it belongs to user 1001`.

    Args:
        status: Of the file or folder.
        trusted: Ids of other users whose files are as good.

    Returns:
        None if only this user can, or where files have neither owners nor modes, as on Windows.
    """
    if not hasattr(os, "geteuid"):
        return None
    if status.st_uid not in {os.geteuid(), *trusted}:
        return f"it belongs to user {status.st_uid}"
    if status.st_mode & _OTHERS_MAY_WRITE:
        return f"other users can write to it (mode {stat.S_IMODE(status.st_mode):04o}; `chmod go-w` changes that)"
    return None


def _check_regular(fd: int, path: Path) -> None:
    mode = os.fstat(fd).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def _too_large(file: BufferedReader, limit: int) -> OSError:
    return OSError(errno.EFBIG, f"larger than {limit} bytes", str(file.name))
