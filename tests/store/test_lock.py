from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import filelock
import pytest

from musicgen_cli.errors import StoreBusyError, StoreError
from musicgen_cli.store import Store, lock
from tests.support.index_lines import WriteIndex, draft, head, sound


def test_a_store_locked_for_too_long_is_busy(
    store: Store, index: WriteIndex, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says that trying again can help, and nothing is appended."""
    path = index(head())
    before = path.read_bytes()
    monkeypatch.setattr(lock, "LOCK_S", 0.05)

    with filelock.FileLock(root / "lock"), pytest.raises(StoreBusyError) as caught:
        store.put(sound(), draft())

    assert caught.value.exit_code == 5
    assert caught.value.hint
    assert path.read_bytes() == before


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_refused(
    code: int, store: Store, index: WriteIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store never falls back to a weaker lock: the error suggests another place for the store."""
    path = index(head())

    def refuse(fd: int, how: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)

    with pytest.raises(StoreError, match="has no locks") as caught:
        store.put(sound(), draft())

    assert "--store" in str(caught.value.hint)
    assert path.read_bytes() == head()


def test_the_lock_file_is_made_once_and_stays(store: Store, root: Path) -> None:
    """It is empty, accessible to its owner alone, and the same file for all writers."""
    store.put(sound(), draft())
    before = (root / "lock").stat()

    store.put(sound(1), draft())

    after = (root / "lock").stat()
    assert (before.st_ino, 0, 0o100600) == (after.st_ino, after.st_size, after.st_mode)
