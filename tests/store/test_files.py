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
def test_a_file_system_that_cannot_sync_directories_is_tolerated(
    store: Store, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Such a file system offers no better way."""
    directory_fsyncs_fail(monkeypatch, code)

    assert store.put(sound(), draft()) == store.get("last")


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_failed_sync_of_a_directory_is_an_error(store: Store, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """A name that may be lost is treated like bytes that may be lost."""
    directory_fsyncs_fail(monkeypatch, code)

    with pytest.raises(StoreError, match=os.strerror(code).lower()):
        store.put(sound(), draft())

    assert store.stats().artifacts == 0


def test_missing_parents_of_the_store_are_made(tmp_path: Path) -> None:
    """The platform's data directory may not exist yet, and is made for its owner alone."""
    store = Store(tmp_path / "share" / "deep er" / "musicgen")

    store.put(sound(), draft())

    assert stat.S_IMODE((tmp_path / "share").stat().st_mode) == 0o700
    assert store.stats().artifacts == 1


def test_a_store_may_have_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path is relative to the working directory."""
    monkeypatch.chdir(tmp_path)

    Store(Path("here")).put(sound(), draft())

    assert Store(tmp_path / "here").stats().artifacts == 1


def test_a_store_behind_a_symbolic_link_works(tmp_path: Path) -> None:
    """The store's own path may be a link, because the user chooses it; no path inside the store may."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")

    artifact = Store(tmp_path / "link").put(sound(), draft())

    assert Store(tmp_path / "disk").read_blob(artifact) == sound()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system does not show the names of open files")
def test_each_step_of_a_put_is_durable_before_the_next(
    store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blob and all names that lead to it are synced before the line that mentions it is written."""
    events: list[str] = []
    fsync, write, replace = os.fsync, os.write, os.replace

    def name_of(fd: int) -> str:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        return "tmp" if path.name.startswith(".tmp-") else str(path.relative_to(root.parent))

    def on_fsync(fd: int) -> None:
        events.append(f"fsync {name_of(fd)}")
        fsync(fd)

    def on_write(fd: int, data: bytes) -> int:
        events.append(f"write {name_of(fd)}")
        return write(fd, data)

    def on_replace(source: Path, target: Path) -> None:
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
