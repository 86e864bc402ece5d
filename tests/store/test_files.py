from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from musicgen_cli.errors import StoreError
from musicgen_cli.store import Store
from tests.support.index_lines import draft, sound


def directory_fsyncs_fail(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    fsync = os.fsync

    def fail(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(code, os.strerror(code))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", fail)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_cannot_sync_directories_is_used_all_the_same(store, monkeypatch, code):
    """There is no better way to be had there."""
    directory_fsyncs_fail(monkeypatch, code)

    assert store.put(sound(), draft()) == store.get("last")


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_directory_that_does_not_reach_the_disk_is_a_failure(store, monkeypatch, code):
    """A name that may be lost is as bad as bytes that may be lost."""
    directory_fsyncs_fail(monkeypatch, code)

    with pytest.raises(StoreError, match=os.strerror(code).lower()):
        store.put(sound(), draft())

    assert store.stats().artifacts == 0


def test_what_lies_above_the_store_is_made_too(tmp_path):
    """The platform's data directory may not be there yet, and is nobody else's to read."""
    store = Store(tmp_path / "share" / "deep er" / "musicgen")

    store.put(sound(), draft())

    assert stat.S_IMODE((tmp_path / "share").stat().st_mode) == 0o700
    assert store.stats().artifacts == 1


def test_a_relative_path_is_enough(tmp_path, monkeypatch):
    """A store may be named as people name things."""
    monkeypatch.chdir(tmp_path)

    Store(Path("here")).put(sound(), draft())

    assert Store(tmp_path / "here").stats().artifacts == 1


def test_a_store_behind_a_symbolic_link_works(tmp_path):
    """Where the store lies is the user's choice; only what is in it is never a link."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")

    artifact = Store(tmp_path / "link").put(sound(), draft())

    assert Store(tmp_path / "disk").read_blob(artifact) == sound()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system does not tell the names of open files")
def test_every_directory_is_synced_after_what_was_put_into_it(store, root, monkeypatch):
    """First the blob and the names that lead to it, and only then the line that names it."""
    events = []
    fsync, write, replace = os.fsync, os.write, os.replace

    def named(fd: int) -> str:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        return "tmp" if path.name.startswith(".tmp-") else str(path.relative_to(root.parent))

    def on_fsync(fd):
        events.append(f"fsync {named(fd)}")
        fsync(fd)

    def on_write(fd, data):
        events.append(f"write {named(fd)}")
        return write(fd, data)

    def on_replace(source, target):
        events.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", on_fsync)
    monkeypatch.setattr(os, "write", on_write)
    monkeypatch.setattr(os, "replace", on_replace)
    artifact = store.put(sound(), draft())
    folder = f"{root.name}/blobs/{artifact.content_hash[:2]}"

    first = [
        "fsync .",
        f"fsync {root.name}",
        *("write tmp", "fsync tmp", "replace", f"fsync {folder}", f"fsync {root.name}/blobs"),
        *(f"fsync {root.name}", f"write {root.name}/index.jsonl", f"fsync {root.name}/index.jsonl"),
    ]
    assert events == first

    events.clear()
    store.put(sound(), draft())

    assert events == [
        *(f"fsync {folder}", f"fsync {root.name}/blobs"),
        *(f"write {root.name}/index.jsonl", f"fsync {root.name}/index.jsonl"),
    ]
