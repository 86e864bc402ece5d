from __future__ import annotations

import errno
import hashlib
import os
import stat

import filelock
import pytest

from musicgen_cli.errors import DamagedError, StoreError
from musicgen_cli.store import Store
from tests.support.index_lines import draft, sound


def blob_of(store: Store, wav: bytes):
    digest = hashlib.sha256(wav).hexdigest()
    return store.root / "blobs" / digest[:2] / f"{digest}.wav"


def test_the_audio_lies_under_its_sha256_as_it_came(store):
    """The file name is what `sha256sum` says, the bytes are the ones that were given."""
    wav = sound()

    artifact = store.put(wav, draft())

    assert store.blob_path(artifact) == blob_of(store, wav)
    assert blob_of(store, wav).read_bytes() == wav == store.read_blob(artifact)
    assert artifact.content_hash == hashlib.sha256(wav).hexdigest()
    assert artifact.id == "artifact_" + artifact.content_hash[:12]
    assert (artifact.bytes, artifact.frames, artifact.sample_rate, artifact.channels) == (len(wav), 64, 32_000, 1)
    assert artifact.duration == 0.002


def test_files_are_for_their_owner_alone(store, root):
    """Whatever the umask says, nothing is open to others, and audio is read-only."""
    umask = os.umask(0)
    try:
        artifact = store.put(sound(), draft())
    finally:
        os.umask(umask)

    def mode(path):
        return stat.S_IMODE(path.stat().st_mode)

    assert {path.relative_to(root).parts[0]: mode(path) for path in root.iterdir()} == {
        "blobs": 0o700,
        "index.jsonl": 0o600,
        "lock": 0o600,
    }
    assert mode(root) == 0o700
    assert mode(store.blob_path(artifact).parent) == 0o700
    assert mode(store.blob_path(artifact)) == 0o400


def test_the_same_audio_twice_is_one_blob_and_two_artifacts(store):
    """Each keeps its own prompt; the file is not written again."""
    first = store.put(sound(), draft("one"))
    before = store.blob_path(first).stat()

    second = store.put(sound(), draft("two"))

    assert second.id == first.id + "-2"
    assert [artifact.prompt for artifact in store.newest(None)] == ["two", "one"]
    assert store.blob_path(second).stat().st_ino == before.st_ino
    assert store.stats().blobs == 1


@pytest.mark.parametrize("rot", [b"", b"\0" * 172, sound(1), sound()[:-1], sound() + b"x"])
def test_rot_is_never_handed_out(store, rot):
    """Bytes that are not those that were stored are an error."""
    artifact = store.put(sound(), draft())
    path = store.blob_path(artifact)
    path.chmod(0o600)
    path.write_bytes(rot)

    with pytest.raises(DamagedError) as caught:
        store.read_blob(artifact)

    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 7


def test_a_missing_blob_is_damage(store):
    """The record alone is no artifact."""
    artifact = store.put(sound(), draft())
    store.blob_path(artifact).unlink()

    with pytest.raises(DamagedError, match="missing"):
        store.read_blob(artifact)


@pytest.mark.parametrize("rot", [b"", b"\0" * 172, sound(1)])
def test_a_wrong_blob_is_healed_by_the_same_audio(store, rot):
    """A file under the right name is hashed before it is trusted, and replaced if it lies."""
    artifact = store.put(sound(), draft())
    path = store.blob_path(artifact)
    path.chmod(0o600)
    path.write_bytes(rot)

    store.put(sound(), draft())

    assert store.read_blob(artifact) == sound()
    assert stat.S_IMODE(path.stat().st_mode) == 0o400


@pytest.mark.parametrize("target", ["canary", "nowhere"])
def test_a_blob_behind_a_symbolic_link_is_refused(store, tmp_path, target):
    """Neither read nor written through, even if the bytes behind it are right."""
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
def test_a_blob_that_could_not_be_finished_leaves_nothing(store, monkeypatch, failing, error):
    """Whatever stops the writing, Ctrl-C too, the temporary goes, and no artifact is listed."""
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


def test_a_write_that_comes_short_is_continued(store, monkeypatch):
    """The kernel may take less than it is given; the blob is whole all the same."""
    store.put(sound(1), draft())
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:50] if len(data) == 172 else data))

    assert store.read_blob(store.put(sound(), draft())) == sound()


def test_a_fan_out_directory_that_is_missing_is_made_again(store):
    """Only `blobs` itself must be there."""
    artifact = store.put(sound(), draft())
    path = store.blob_path(artifact)
    path.unlink()
    path.parent.rmdir()

    store.put(sound(), draft())

    assert store.read_blob(artifact) == sound()


def test_a_blob_that_is_cleaned_away_before_its_line_is_written_again(store, monkeypatch):
    """Under the lock the file must still be there, else it is put once more."""
    artifact = store.put(sound(), draft())
    path = store.blob_path(artifact)
    locks = []
    acquire = filelock.FileLock.acquire

    def clean_up_first(lock, *args, **kwargs):
        locks.append(lock)
        if len(locks) == 1:
            path.unlink()
        return acquire(lock, *args, **kwargs)

    monkeypatch.setattr(filelock.FileLock, "acquire", clean_up_first)

    second = store.put(sound(), draft())

    assert len(locks) == 2
    assert store.read_blob(second) == sound()


def test_a_blob_that_keeps_vanishing_is_given_up(store, monkeypatch):
    """Three times is enough; no line without its audio is written."""
    path = store.blob_path(store.put(sound(), draft()))
    acquire = filelock.FileLock.acquire
    monkeypatch.setattr(
        filelock.FileLock, "acquire", lambda lock, *args, **kwargs: (path.unlink(), acquire(lock, *args, **kwargs))
    )

    with pytest.raises(StoreError, match="3 times"):
        store.put(sound(), draft())

    assert store.stats().artifacts == 1


def test_stats_count_what_lies_in_the_blobs(store):
    """Whole files by size, unfinished ones apart, strangers not at all."""
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
