from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import Any

import filelock
import pytest

from musicgen_cli.errors import DamagedError, StoreError
from musicgen_cli.store import Store
from tests.support.index_lines import draft, sound


def blob_of(store: Store, wav: bytes) -> Path:
    digest = hashlib.sha256(wav).hexdigest()
    return store.root / "blobs" / digest[:2] / f"{digest}.wav"


def test_audio_is_stored_unchanged_under_its_sha256(store: Store) -> None:
    """The file is named by the digest that `sha256sum` prints, and has the same bytes as the WAV."""
    wav = sound()

    artifact = store.put(wav, draft())

    assert store.blob_path(artifact) == blob_of(store, wav)
    assert blob_of(store, wav).read_bytes() == wav == store.read_blob(artifact)
    assert artifact.content_hash == hashlib.sha256(wav).hexdigest()
    assert artifact.id == "artifact_" + artifact.content_hash[:12]
    assert (artifact.bytes, artifact.frames, artifact.sample_rate, artifact.channels) == (len(wav), 64, 32_000, 1)
    assert artifact.duration == 0.002


def test_files_are_accessible_to_their_owner_alone(store: Store, root: Path) -> None:
    """Whatever the umask is, other users have no access, and audio is read-only."""
    umask = os.umask(0)
    try:
        artifact = store.put(sound(), draft())
    finally:
        os.umask(umask)

    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    assert {path.relative_to(root).parts[0]: mode(path) for path in root.iterdir()} == {
        "blobs": 0o700,
        "index.jsonl": 0o600,
        "lock": 0o600,
    }
    assert mode(root) == 0o700
    assert mode(store.blob_path(artifact).parent) == 0o700
    assert mode(store.blob_path(artifact)) == 0o400


def test_the_same_audio_twice_is_one_blob_and_two_artifacts(store: Store) -> None:
    """Each artifact has its own prompt, and the file is not written again."""
    first = store.put(sound(), draft("one"))
    before = store.blob_path(first).stat()

    second = store.put(sound(), draft("two"))

    assert second.id == first.id + "-2"
    assert [artifact.prompt for artifact in store.newest(None)] == ["two", "one"]
    assert store.blob_path(second).stat().st_ino == before.st_ino
    assert store.stats().blobs == 1


@pytest.mark.parametrize("damaged", [b"", b"\0" * 172, sound(1), sound()[:-1], sound() + b"x"])
def test_damaged_audio_is_never_returned(store: Store, damaged: bytes) -> None:
    """Reading other bytes than were stored is an error."""
    artifact = store.put(sound(), draft())
    path = store.blob_path(artifact)
    path.chmod(0o600)
    path.write_bytes(damaged)

    with pytest.raises(DamagedError) as caught:
        store.read_blob(artifact)

    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 7


def test_missing_audio_is_an_error(store: Store) -> None:
    """Reading the audio reports the damage."""
    artifact = store.put(sound(), draft())
    store.blob_path(artifact).unlink()

    with pytest.raises(DamagedError, match="missing"):
        store.read_blob(artifact)


@pytest.mark.parametrize("damaged", [b"", b"\0" * 172, sound(1)])
def test_damaged_audio_is_repaired_by_storing_it_again(store: Store, damaged: bytes) -> None:
    """A file with the right name is hashed before it is trusted, and replaced if its bytes are wrong."""
    artifact = store.put(sound(), draft())
    path = store.blob_path(artifact)
    path.chmod(0o600)
    path.write_bytes(damaged)

    store.put(sound(), draft())

    assert store.read_blob(artifact) == sound()
    assert stat.S_IMODE(path.stat().st_mode) == 0o400


@pytest.mark.parametrize("target", ["canary", "nowhere"])
def test_a_blob_behind_a_symbolic_link_is_refused(store: Store, tmp_path: Path, target: str) -> None:
    """The link is neither read nor written through, even if it points to the right bytes."""
    canary = tmp_path / "canary"
    canary.write_bytes(sound())
    artifact = store.put(sound(), draft())
    path = store.blob_path(artifact)
    path.unlink()
    path.symlink_to(tmp_path / target)

    with pytest.raises(DamagedError, match="symbolic link"):
        store.read_blob(artifact)
    with pytest.raises(StoreError, match="symbolic link"):
        store.put(sound(), draft())

    assert canary.read_bytes() == sound()
    assert not (tmp_path / "nowhere").exists()
    assert store.stats().artifacts == 1


def temporaries(store: Store) -> list[str]:
    return [path.name for path in (store.root / "blobs").rglob(".tmp-*")]


@pytest.mark.parametrize("failing", ["write", "fchmod", "fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_an_interrupted_write_of_a_blob_leaves_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, failing: str, error: BaseException
) -> None:
    """After an error or Ctrl-C, the temporary file is removed and no artifact is listed."""
    store.put(sound(), draft())

    def fail(*args: object) -> None:
        raise error

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else StoreError):
        store.put(sound(1), draft())
    monkeypatch.undo()

    assert temporaries(store) == []
    assert not blob_of(store, sound(1)).exists()
    assert store.stats().artifacts == store.stats().blobs == 1


def test_a_short_write_of_a_blob_is_continued(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may write fewer bytes than were passed; the blob is complete all the same."""
    store.put(sound(1), draft())
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:50] if len(data) == 172 else data))

    assert store.read_blob(store.put(sound(), draft())) == sound()


def test_a_missing_directory_of_blobs_is_made_again(store: Store) -> None:
    """A directory named by two digits is made when it is needed; `blobs` itself must exist."""
    artifact = store.put(sound(), draft())
    path = store.blob_path(artifact)
    path.unlink()
    path.parent.rmdir()

    store.put(sound(), draft())

    assert store.read_blob(artifact) == sound()


def test_a_blob_deleted_before_its_line_is_written_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer checks under the lock that its blob still exists, and otherwise stores it again."""
    artifact = store.put(sound(), draft())
    path = store.blob_path(artifact)
    locks: list[filelock.FileLock] = []
    acquire = filelock.FileLock.acquire

    def delete_first(lock: filelock.FileLock, *args: Any, **kwargs: Any) -> Any:
        locks.append(lock)
        if len(locks) == 1:
            path.unlink()
        return acquire(lock, *args, **kwargs)

    monkeypatch.setattr(filelock.FileLock, "acquire", delete_first)

    second = store.put(sound(), draft())

    assert len(locks) == 2
    assert store.read_blob(second) == sound()


def test_a_put_gives_up_when_its_blob_is_deleted_three_times(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """No line without its audio is written."""
    path = store.blob_path(store.put(sound(), draft()))
    acquire = filelock.FileLock.acquire

    def delete_first(lock: filelock.FileLock, *args: Any, **kwargs: Any) -> Any:
        path.unlink()
        return acquire(lock, *args, **kwargs)

    monkeypatch.setattr(filelock.FileLock, "acquire", delete_first)

    with pytest.raises(StoreError, match="3 times"):
        store.put(sound(), draft())

    assert store.stats().artifacts == 1


def test_stats_count_blobs_and_temporaries(store: Store) -> None:
    """Unfinished writes are counted apart, and other files are not counted."""
    for seed in range(3):
        store.put(sound(seed), draft())
    folder = store.blob_path(store.get("last")).parent
    (folder / ".tmp-1-0123456789abcdef").write_bytes(b"half")
    (folder / "notes.txt").write_text("mine")
    (store.root / "blobs" / "stray").write_text("mine")

    stats = store.stats()

    assert (stats.artifacts, stats.lines, stats.bad_lines) == (3, 4, 0)
    assert (stats.blobs, stats.blob_bytes, stats.temporaries) == (3, 3 * 172, 1)
    assert stats.index_bytes == (store.root / "index.jsonl").stat().st_size
    assert stats.audio_seconds == 0.006
