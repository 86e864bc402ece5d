"""
Open, write, sync and rename with care: the one place where the store touches the file system.

No name is followed if it is a symbolic link, except the store's own directory and what lies above it: where the store
is, is the user's choice.
"""

# Every system call is made through `os`, where a test can watch it and make it fail.
# ruff: noqa: PTH101, PTH102, PTH105, PTH108, PTH208

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

from musicgen_cli.errors import StoreError

if sys.platform == "darwin":
    import fcntl

_CAREFUL = 0
for _name in ("O_NOFOLLOW", "O_CLOEXEC", "O_BINARY", "O_NOINHERIT"):
    _CAREFUL |= getattr(os, _name, 0)

_NOT_OFFERED = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}  # a file system's way to say that it has no such call
_NO_LINKS = _NOT_OFFERED | {errno.EPERM, errno.ENOSYS, errno.EMLINK}
_REPLACE_S = 1.0  # Windows refuses to replace a file that is open; readers are quick
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


def open_fd(path: Path, flags: int) -> int:
    """Open `path`, which must not be a symbolic link; a new file is for its owner alone."""
    if not hasattr(os, "O_NOFOLLOW"):
        refuse_link(path)
    return os.open(path, flags | _CAREFUL, 0o600)


def open_to_read(path: Path) -> BufferedReader:
    """Open `path`, which must not be a symbolic link, for reading."""
    return open(path, "rb", opener=lambda _, flags: open_fd(path, flags))


def write_new(path: Path, data: bytes) -> None:
    """
    Write a file that nobody will change: it is on the disk, and read-only, when this returns.

    Raises:
        OSError: It exists already, or any step failed; what was written is the caller's to remove.
    """
    fd = open_fd(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
        if hasattr(os, "fchmod"):  # not on Windows before Python 3.13
            os.fchmod(fd, 0o400)
        sync(fd)
    finally:
        os.close(fd)


def names(folder: Path) -> list[str]:
    """Return the names in a directory as they are now: the caller may remove what it is told of."""
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name; where the file system has no links, copy it. The caller syncs the directory."""
    try:
        os.link(source, target)
    except OSError as err:
        if err.errno not in _NO_LINKS:
            raise
    else:
        return
    with (
        open_to_read(source) as old,
        os.fdopen(open_fd(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY), "wb") as new,
    ):
        shutil.copyfileobj(old, new)
        new.flush()
        sync(new.fileno())


def refuse_link(path: Path) -> None:
    """Raise the error of an open that doesn't follow links, if `path` is one: a directory is never opened itself."""
    if path.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


def sync(fd: int) -> None:
    """Wait until the disk itself has what was written to `fd`."""
    if sys.platform == "darwin":  # there fsync stops at the drive's cache
        try:
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        except OSError as err:
            if err.errno not in _NOT_OFFERED | {errno.ENOTTY}:
                raise
        else:
            return
    os.fsync(fd)


def sync_directory(path: Path, *, follow: bool = False) -> None:
    """Wait until the disk has the names in the directory `path`; `follow` it if it is a symbolic link."""
    if sys.platform == "win32":
        return
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | (_CAREFUL & ~os.O_NOFOLLOW if follow else _CAREFUL))
    try:
        sync(fd)
    except OSError as err:
        if err.errno not in _NOT_OFFERED:
            raise
    finally:
        os.close(fd)


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
    sync_directory(path.parent, follow=True)


def replace(source: Path, target: Path) -> None:
    """Give `source` the name `target` in one step, whatever had that name."""
    give_up = time.monotonic() + _REPLACE_S
    while True:
        try:
            if sys.platform == "win32":
                with suppress(FileNotFoundError):
                    os.chmod(target, stat.S_IWRITE)
            os.replace(source, target)
        except PermissionError:
            if sys.platform != "win32" or time.monotonic() > give_up:
                raise
            time.sleep(0.01)
        else:
            return


def remove(path: Path) -> None:
    """Remove a file; a symbolic link goes, not what it points to."""
    if sys.platform == "win32":
        os.chmod(path, stat.S_IWRITE)
    os.unlink(path)


def discard(path: Path) -> None:
    """Remove a file of ours that may be there; failing to is no failure."""
    with suppress(OSError):
        remove(path)
