"""Check a store against the format: files, lock, index and blobs. Nothing is changed."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path

from musicgen_cli.errors import StoreError, system_reason
from musicgen_cli.store import files
from musicgen_cli.store.blobs import Blobs, Entry
from musicgen_cli.store.digest import Digest
from musicgen_cli.store.fold import Fold, Problem
from musicgen_cli.store.journal import INDEX, OLD, Journal, Snapshot
from musicgen_cli.store.lock import LOCK, locked

QUARANTINE = "quarantine"

# The program of a second process, which must fail to take the lock that this one holds. Its argument is the lock file.
_TRY_LOCK = """
import sys, filelock
try:
    filelock.FileLock(sys.argv[1], mode=0o600, timeout=0, fallback_to_soft=False, preserve_lock_file=True).acquire()
except filelock.Timeout:
    sys.exit(9)
"""
_REFUSED = 9  # its exit code if it fails, as it should
_TRY_LOCK_S = 30.0


def check(root: Path, *, full: bool = False) -> Iterator[Problem]:
    """
    Check a store and yield its problems; a store that does not exist has none.

    Args:
        root: The store's directory.
        full: Hash all audio again; otherwise only check that it is there and has the right size.

    Raises:
        StoreError: The store can't be read.
        NewerStoreError: Only a newer version understands the store.
        StoreBusyError: Another process kept the store locked.
    """
    with files.explained("read", root), ExitStack() as stack:
        yield from check_layout(root)
        snapshot, problem = _open_index(root, stack)
        if problem is not None:
            yield problem
        fold = Fold()
        yield from fold.read(snapshot)
        blobs = Blobs(root)
        for record in fold.put_records(snapshot):
            flaw = _audio_flaw(blobs.path(Digest(record["content_hash"])), None if full else record["bytes"])
            if flaw is not None:
                kind, reason = flaw
                yield Problem(kind, record["id"], f"the audio of {record['id']} {reason}")
        for entry in blobs.entries() if full else ():
            if (text := blob_flaw(blobs, entry)) is not None:
                name = _inside(root, entry.path)
                yield Problem("audio", name, f"{name} {text}")


def check_layout(root: Path) -> Iterator[Problem]:
    """Yield the problems of the store's files and directories themselves: their type, owner and mode."""
    try:
        root_status = root.stat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(root_status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(root))
    has_modes: bool | None = None  # it is tried with a file, which is removed again, if one is wrong
    for path, is_directory, mode in layout(root):
        try:
            status = root_status if path == root else path.lstat()
        except FileNotFoundError:
            continue
        name = _inside(root, path)
        if stat.S_ISLNK(status.st_mode):
            yield Problem("link", name, f"{name} is a symbolic link, which is not followed")
        elif not (stat.S_ISDIR if is_directory else stat.S_ISREG)(status.st_mode):
            yield Problem("type", name, f"{name} is not a {'directory' if is_directory else 'file'}")
        elif hasattr(os, "geteuid"):  # Windows has neither owners nor modes in this sense
            owner = os.geteuid() if path == root else root_status.st_uid
            if status.st_uid != owner:
                yield Problem("owner", name, f"{name} belongs to user {status.st_uid}, not to {owner}")
            if (actual_mode := stat.S_IMODE(status.st_mode) & 0o777) == mode:
                continue
            if has_modes is None:
                has_modes = files.keeps_modes(root)
            if has_modes:
                yield Problem("mode", name, f"{name} has mode {actual_mode:04o} instead of {mode:04o}")


def layout(root: Path) -> Iterator[tuple[Path, bool, int]]:
    """Yield all paths that may be in a store, from the top down: path, whether it is a directory, mode."""
    yield root, True, 0o700
    for name in (LOCK, INDEX, OLD):
        yield root / name, False, 0o600
    for name in (QUARANTINE, "blobs"):
        yield root / name, True, 0o700
    blobs = Blobs(root)
    for folder in blobs.folders():
        yield folder, True, 0o700
    for entry in blobs.entries():
        if entry.digest is not None:
            yield entry.path, False, 0o400


def blob_flaw(blobs: Blobs, entry: Entry) -> str | None:
    """Hash a blob and say what is wrong with it; None if it is intact, no regular file, or has been deleted by now."""
    if entry.digest is None or not entry.is_file:
        return None
    try:
        if blobs.is_intact(entry.digest) or not blobs.holds(entry.digest):
            return None
    except OSError as err:  # for example a bad sector; the other blobs can still be read
        return f"can't be read: {system_reason(err)}"
    return "is not what was stored"


def ignore(kind: str, line: str) -> None:
    """Ignore a journal's warning, where all lines are checked one by one anyway."""


def _open_index(root: Path, stack: ExitStack) -> tuple[Snapshot, Problem | None]:
    """
    Open the index for as long as `stack` is open, and test the lock.

    The index is opened under the lock, so that an incomplete last line is not just another process's write in progress;
    without the lock where it can't be had, as on a read-only medium.
    """
    lock = root / LOCK
    problem = None
    has_lock = not lock.is_symlink() and lock.is_file() and os.access(lock, os.W_OK)
    journal = Journal(root, ignore)
    try:
        with locked(root) if has_lock else nullcontext():
            if has_lock:
                problem = _try_lock(lock)
            return stack.enter_context(journal.reading()), problem
    except StoreError as err:
        return stack.enter_context(journal.reading()), Problem("lock", LOCK, str(err))


def _try_lock(lock: Path) -> Problem | None:
    # -P, because the working directory may contain a `filelock.py`.
    command = [sys.executable, "-P", "-c", _TRY_LOCK, str(lock)]
    try:
        code = subprocess.run(command, capture_output=True, timeout=_TRY_LOCK_S, check=False).returncode  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        code = None
    if code == _REFUSED:
        return None
    if code == 0:
        return Problem("lock", LOCK, "a second process got the lock while it was held: is the store on NFS?")
    return Problem("lock", LOCK, "the lock could not be tested with a second process")


def _audio_flaw(path: Path, size: int | None) -> tuple[str, str] | None:
    """Return the kind and the text of a problem with the file of an artifact's audio, without reading it."""
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return "missing", "is missing"
    if size is not None and stat.S_ISREG(status.st_mode) and status.st_size != size:
        return "size", f"has {status.st_size} bytes instead of {size}"
    return None  # `check_layout` has reported a wrong type already


def _inside(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()
