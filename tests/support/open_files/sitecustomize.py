"""
Reports each file that the program renames, replaces or removes while it has it open or mapped itself.

Linux allows that and Windows refuses it, so every report is a failure there. Python imports a module of this name when
it starts: with this folder on PYTHONPATH, programs that tests start are observed as well. Each report is a line of JSON
at the end of the file that OPEN_FILES_REPORT names.
"""

# Paths are handled by `os` alone: it is what is replaced here, before anything else is imported.
# ruff: noqa: PTH100, PTH115, PTH116, PTH118, PTH123, PTH208

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from typing import Any

REPORT = "OPEN_FILES_REPORT"
PACKAGE = "musicgen_cli"


def _absolute(path: Any, folder: int | None) -> str:
    text = os.fsdecode(path)
    if folder is not None:
        text = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), text)
    return os.path.abspath(text)


def _in_use() -> Iterator[tuple[str, int, int]]:
    """Yield path, device and inode of each regular file that this process has open, and of each that it has mapped."""
    for name in os.listdir("/proc/self/fd"):
        try:
            status = os.stat(int(name))
            path = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the descriptor of the listing itself, or one that another thread has closed
            continue
        if stat.S_ISREG(status.st_mode):
            yield path, status.st_dev, status.st_ino
    with open("/proc/self/maps", errors="replace") as maps:
        for line in maps:
            fields = line.rstrip("\n").split(None, 5)  # addresses, permissions, offset, device, inode, path
            if len(fields) == 6 and fields[4] != "0":
                major, minor = (int(part, 16) for part in fields[3].split(":"))
                yield fields[5], os.makedev(major, minor), int(fields[4])


def _used(path: str) -> str | None:
    """Return the file that would keep Windows from renaming or removing `path`, a file or a folder."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    for used, device, inode in _in_use():
        is_it = (device, inode) == (status.st_dev, status.st_ino)
        if stat.S_ISREG(status.st_mode) and is_it:
            return used
        if stat.S_ISDIR(status.st_mode) and used.startswith(path + os.sep):
            return used
    return None


def _check(action: str, path: str) -> None:
    used = _used(path)
    if used is None:
        return
    import json  # only here: there are tests of what a program imports
    import traceback

    frames = [frame for frame in traceback.extract_stack() if f"{os.sep}{PACKAGE}{os.sep}" in frame.filename]
    if not frames:
        return
    where = [f"{frame.filename.rpartition(f'{PACKAGE}{os.sep}')[2]}:{frame.name}" for frame in reversed(frames)]
    test = os.environ.get("PYTEST_CURRENT_TEST", "").partition(" ")[0]
    line = json.dumps({"action": action, "path": path, "used": used, "where": where, "test": test}) + "\n"
    report = os.open(os.environ[REPORT], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(report, line.encode())
    os.close(report)


def _moving(name: str) -> Callable[..., None]:
    original = getattr(os, name)

    def move(src: Any, dst: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
        _check(name, _absolute(src, src_dir_fd))
        _check(name, _absolute(dst, dst_dir_fd))
        original(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    return move


def _removing(name: str) -> Callable[..., None]:
    original = getattr(os, name)

    def remove(path: Any, *, dir_fd: int | None = None) -> None:
        _check(name, _absolute(path, dir_fd))
        original(path, dir_fd=dir_fd)

    return remove


def _install() -> None:
    for name, observed in [
        *((name, _moving(name)) for name in ("rename", "replace")),
        *((name, _removing(name)) for name in ("unlink", "remove")),
    ]:
        os.supports_dir_fd.add(observed)  # so that `shutil.rmtree` removes as it did before
        setattr(os, name, observed)


if sys.platform == "linux" and REPORT in os.environ:
    _install()
