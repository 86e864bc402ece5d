"""
Write files whole or not at all: to a temporary beside the target, synced, then renamed.

It also has wrappers of the system calls that this needs: none of them writes through a symbolic link, `sync` waits for
the disk itself rather than its cache, and `replace` and `rename` wait on Windows for processes that have a file open.
"""

# Every system call is made through `os`, so that tests can observe it and make it fail.
# ruff: noqa: PTH101, PTH104, PTH105, PTH108

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from musicgen_cli import foreign

if sys.platform == "darwin":
    import fcntl

TEMPORARY = ".tmp-"  # the default prefix of temporaries; what a crash leaves is recognised by it
PRIVATE = 0o600  # readable by the owner alone
PRIVATE_FOLDER = 0o700
READ_ONLY = 0o400
SHARED = 0o666  # less the umask, as for any file that a program creates

_CREATE = os.O_CREAT | os.O_EXCL | os.O_WRONLY
_DIRECTORY = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)

_UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}  # the file system has no such call
_NO_LINKS = _UNSUPPORTED | {errno.EPERM, errno.ENOSYS, errno.EMLINK, errno.EACCES}  # EACCES: Android
_NO_MODES = _UNSUPPORTED | {errno.EPERM, errno.ENOSYS}  # EPERM: CIFS, FAT, mounts of a bucket


def write(
    path: Path,
    data: bytes,
    *,
    mode: int = PRIVATE,
    durable: bool = True,
    overwrite: bool = True,
    prefix: str = TEMPORARY,
) -> None:
    """
    Write a file whole or not at all: a crash or a failure leaves what was there before.

    Args:
        path: The file; its folder must exist. A symbolic link there is replaced, not followed.
        data: All its bytes.
        mode: Permissions, less the umask; a file system may have none.
        durable: Wait until the disk has the bytes; a call of `sync_directory` makes sure of the name.
        overwrite: Replace an existing file.
        prefix: The first characters of the temporary's name.

    Raises:
        FileExistsError: The file exists, and `overwrite` is false.
        OSError: A step failed; an existing file is unchanged.
    """
    with replacing(path, overwrite=overwrite, prefix=prefix) as temporary:
        write_new(temporary, data, mode=mode, durable=durable)


@contextmanager
def replacing(path: Path, *, overwrite: bool = True, prefix: str = TEMPORARY) -> Iterator[Path]:
    """
    Yield the name of a temporary for the block to write; the file takes the name `path` when the block ends.

    The temporary lies in the same folder, since a rename across file systems is a copy, and has a random name, since
    no lock is held. If the block raises, Ctrl-C included, it is removed and `path` is unchanged.

    Raises:
        FileExistsError: `path` exists, and `overwrite` is false.
        OSError: `path` is neither a file nor a symbolic link, but for instance a device.
    """
    if overwrite:
        refuse_special(path)
    temporary = path.with_name(f"{prefix}{os.getpid()}-{os.urandom(8).hex()}")
    with _removed_on_failure(temporary):
        yield temporary
        if overwrite:
            replace(temporary, path)
        else:
            link_or_copy(temporary, path)
    if not overwrite:
        discard(temporary)


def write_new(path: Path, data: bytes, *, mode: int = PRIVATE, durable: bool = True) -> None:
    """
    Create a file with the given bytes.

    Raises:
        FileExistsError: `path` exists.
        OSError: A step failed; the file is removed.
    """
    fd = open_fd(path, _CREATE, mode | stat.S_IWUSR)
    with _removed_on_failure(path):
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(fd, rest) :]
            if not mode & stat.S_IWUSR and hasattr(os, "fchmod"):  # not on Windows before Python 3.13
                _set_mode(fd, mode)
            if durable:
                sync(fd)
        finally:
            os.close(fd)


@contextmanager
def new_file(path: Path, *, mode: int = PRIVATE) -> Iterator[BinaryIO]:
    """
    Create a file for writing in pieces; the disk has all bytes when the block ends.

    Raises:
        FileExistsError: `path` exists.
        OSError: A step failed; the file is removed, as it is if the block raises.
    """
    fd = open_fd(path, _CREATE, mode)
    with _removed_on_failure(path), os.fdopen(fd, "wb") as file:
        yield file
        file.flush()
        sync(file.fileno())


def link_or_copy(source: Path, target: Path) -> None:
    """
    Give a file a second name; where the file system has no hard links, copy it. The caller syncs the directory.

    Raises:
        FileExistsError: `target` exists.
    """
    try:
        os.link(source, target)
    except OSError as err:
        if err.errno not in _NO_LINKS:
            raise
    else:
        return
    with os.fdopen(open_fd(source, os.O_RDONLY), "rb") as old:
        mode = stat.S_IMODE(os.fstat(old.fileno()).st_mode)
        with new_file(target, mode=mode) as new:
            shutil.copyfileobj(old, new)


def open_fd(path: Path, flags: int, mode: int = PRIVATE) -> int:
    """
    Open a regular file that is not a symbolic link; `mode` is that of a new file, less the umask.

    Raises:
        OSError: It can't be opened, or is anything else.
    """
    return foreign.open_fd(path, flags, mode, follow=False)


def open_private(path: Path, mode: str = "wb") -> BinaryIO:
    """Open a file for writing, as `open` does with this mode; if it is new, only its owner can read it."""
    return cast("BinaryIO", open(path, mode, opener=lambda _, flags: open_fd(path, flags)))


def make_private_folder(path: Path) -> None:
    """Make a folder of this program's own and those above it, unless they exist; nobody else can enter a new one."""
    if not path.is_dir():
        make_private_folder(path.parent)
        with suppress(FileExistsError):
            path.mkdir(PRIVATE_FOLDER)


def sync(fd: int) -> None:
    """Wait until the disk itself has all bytes that were written to `fd`."""
    if sys.platform == "darwin":  # where fsync only reaches the drive's cache
        try:
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        except OSError as err:
            if err.errno not in _UNSUPPORTED | {errno.ENOTTY}:
                raise
        else:
            return
    os.fsync(fd)


def sync_directory(path: Path, *, follow: bool = False) -> None:
    """Wait until the disk has the names in a directory, which may be a symbolic link if `follow` is set."""
    if sys.platform == "win32":
        return
    fd = os.open(path, os.O_RDONLY | _DIRECTORY | (0 if follow else _NO_FOLLOW))
    try:
        sync(fd)
    except OSError as err:
        if err.errno not in _UNSUPPORTED:
            raise
    finally:
        os.close(fd)


def refuse_special(path: Path) -> None:
    """Raise `OSError` if `path` is a device, a pipe or a socket: a rename would remove what programs rely on."""
    with suppress(FileNotFoundError):
        mode = os.lstat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode) or stat.S_ISDIR(mode)):  # a rename refuses a directory itself
            raise OSError(errno.EINVAL, "not a regular file", str(path))


def replace(source: Path, target: Path) -> None:
    """Rename `source` to `target` in one step, replacing what had that name."""

    def once() -> None:
        if sys.platform == "win32":
            with suppress(FileNotFoundError):
                os.chmod(target, stat.S_IWRITE)
        os.replace(source, target)

    foreign.retried(once)


def rename(source: Path, target: Path) -> None:
    """Rename a file or a folder to a name that is free; `replace` is for files alone."""
    foreign.retried(lambda: os.rename(source, target))


def remove(path: Path) -> None:
    """Remove a file; a symbolic link itself is removed, not what it points to."""
    if sys.platform == "win32":
        os.chmod(path, stat.S_IWRITE)
    os.unlink(path)


def discard(path: Path) -> None:
    """Remove a file if it exists; a failure is ignored."""
    with suppress(OSError):
        remove(path)


def _set_mode(fd: int, mode: int) -> None:
    """Set a file's permissions, which protect it from accidents only: a file system without them is good enough."""
    try:
        os.fchmod(fd, mode)
    except OSError as err:
        if err.errno not in _NO_MODES:
            raise


@contextmanager
def _removed_on_failure(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:  # Ctrl-C too
        discard(path)
        raise
