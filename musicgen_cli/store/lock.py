"""The lock that writers take, so that one process at a time appends to an index or rewrites it."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from musicgen_cli import atomic
from musicgen_cli.errors import StoreBusyError, StoreError
from musicgen_cli.store import files

LOCK = "lock"
LOCK_S = 30.0  # how long to wait for another process

_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}


@contextmanager
def locked(
    root: Path, name: str = LOCK, wait_s: float | None = None, *, hint: str = files.OTHER_STORE
) -> Iterator[None]:
    """
    Hold an exclusive lock; the kernel frees it when the process dies.

    Args:
        root: The directory of the lock file.
        name: The lock file; it is deleted afterwards unless it is the store's own.
        wait_s: How long to wait for another process; None: 30 s.
        hint: What to do where the file system has no locks.

    Raises:
        StoreBusyError: Another process still held the lock after that time.
        StoreError: The file system has no locks.
    """
    from filelock import FileLock, Timeout  # here, since importing it takes longer than listing

    lock = FileLock(
        root / name,
        mode=0o600,
        timeout=LOCK_S if wait_s is None else wait_s,
        poll_interval=0.01,
        fallback_to_soft=False,
        preserve_lock_file=True,
        on_acquired=_refuse_removed,
    )
    try:
        lock.acquire()
    except Timeout as err:
        raise StoreBusyError(
            f"another process kept {str(root)!r} locked for {lock.timeout:g} s", hint="try again later"
        ) from err
    except OSError as err:
        if err.errno not in _NO_LOCKS:
            raise
        raise _no_locks(root, hint) from err
    try:
        yield
    finally:
        if name != LOCK:
            # While the lock is held: a process that has opened the file already finds out in `_refuse_removed`.
            # Windows removes no open file: not this one before it is closed, nor one that the next holder has opened.
            if sys.platform == "win32":
                lock.release()
            atomic.discard(root / name)
        lock.release()


def probe(folder: Path) -> None:
    """
    Do in a folder what storing a take does: write a file, sync, lock and rename it. Nothing of it is left.

    Raises:
        OSError: One of these failed.
        StoreError: The file system has no locks.
    """
    from filelock import lock_descriptor

    path = folder / f"{atomic.TEMPORARY}{os.getpid()}-{os.urandom(8).hex()}"
    renamed = path.with_name(f"{path.name}-renamed")
    try:
        atomic.write_new(path, b"probe")
        fd = atomic.open_fd(path, os.O_RDWR)
        try:
            lock_descriptor(fd, blocking=False)
        except OSError as err:
            if err.errno not in _NO_LOCKS:
                raise
            raise _no_locks(folder, files.OTHER_STORE) from err
        finally:
            os.close(fd)
        atomic.replace(path, renamed)
        atomic.sync_directory(folder, follow=True)
    finally:
        atomic.discard(path)
        atomic.discard(renamed)


def _no_locks(root: Path, hint: str) -> StoreError:
    return StoreError(f"the file system of {str(root)!r} has no locks", hint=hint)


def _refuse_removed(fd: int) -> None:
    """Give up a lock whose file the last holder deleted: no other process can open that file any more."""
    if os.fstat(fd).st_nlink == 0:
        from filelock import Timeout

        raise Timeout("the lock file was removed by its last holder")
