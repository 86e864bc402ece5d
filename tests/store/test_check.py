from __future__ import annotations

import errno
import fcntl
import os
import subprocess
from pathlib import Path
from typing import Any, NoReturn

import pytest

from musicgen_cli.errors import NewerStoreError, StoreError
from musicgen_cli.store import Artifact, Store
from musicgen_cli.store.check import check
from musicgen_cli.store.maintenance import repair
from tests.support.index_lines import WriteIndex, delete, draft, head, name, put, sealed, sound, tag


def kinds(root: Path, *, full: bool = False) -> list[str]:
    return [problem.kind for problem in check(root, full=full)]


@pytest.fixture
def take(store: Store) -> Artifact:
    """Return the only take of the store."""
    return store.put(sound(), draft())


@pytest.fixture
def by_hand(index: WriteIndex, root: Path) -> WriteIndex:
    """Write an index by hand, with the right modes and without a lock file."""

    def write(*lines: bytes) -> Path:
        path = index(*lines)
        for each, mode in ((path, 0o600), (root, 0o700), (root / "blobs", 0o700)):
            each.chmod(mode)
        return path

    return write


def test_a_store_has_no_problems_after_any_kind_of_edit(store: Store, root: Path) -> None:
    """The check includes the lock, which a second process can't take."""
    first, second = (store.put(sound(seed), draft()) for seed in range(2))
    store.tag([first.id], add=["calm"])
    store.remove([second.id])
    store.restore(second.id)

    assert list(check(root, full=True)) == []


def test_a_store_that_does_not_exist_has_no_problems(root: Path) -> None:
    """A missing index is an empty store."""
    assert list(check(root)) == []
    assert not root.exists()


def test_a_store_that_is_a_file_is_an_error(root: Path) -> None:
    """It is the same error as that of all other commands."""
    root.write_bytes(b"")

    with pytest.raises(StoreError, match="not a directory"):
        list(check(root))


def test_a_lock_without_effect_is_found(take: Artifact, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On some network file systems, locks do nothing; here, this process's own lock does nothing."""
    monkeypatch.setattr(fcntl, "flock", lambda fd, how: None)

    assert kinds(root) == ["lock"]


def test_a_lock_that_cannot_be_tested_is_a_problem(take: Artifact, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store isn't called right while its lock is untested."""

    def fail(*args: object, **kwargs: object) -> NoReturn:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(subprocess, "run", fail)

    assert kinds(root) == ["lock"]


def test_a_file_system_without_locks_is_a_problem_and_the_rest_is_still_checked(
    take: Artifact, root: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check continues without the lock."""

    def fail(fd: int, how: int) -> NoReturn:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", fail)
    store.blob_path(take).unlink()

    assert kinds(root) == ["lock", "missing"]


@pytest.mark.parametrize(
    ("part", "mode"),
    [
        ("", 0o755),
        ("lock", 0o644),
        ("index.jsonl", 0o640),
        ("blobs", 0o770),
        ("blobs/xx", 0o711),
        ("blobs/xx/h.wav", 0o600),
    ],
)
def test_a_wrong_mode_is_found_and_repaired(store: Store, take: Artifact, root: Path, part: str, mode: int) -> None:
    """A store is accessible to its owner alone, and audio is read-only."""
    digest = take.content_hash
    path = root / part.replace("xx", digest[:2]).replace("h.wav", digest + ".wav")
    path.chmod(mode)

    (problem,) = check(root)

    assert (problem.kind, problem.where) == ("mode", path.relative_to(root).as_posix())
    assert f"{mode:04o}" in problem.message
    assert repair(root).modes == 1
    assert list(check(root)) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the owner of a file")
def test_a_wrong_owner_is_found(take: Artifact, root: Path) -> None:
    """Another user could delete or change the file."""
    os.chown(root / "index.jsonl", 12345, -1)

    assert kinds(root) == ["owner"]


@pytest.mark.parametrize("part", ["lock", "blobs", "blobs/xx", "blobs/xx/h.wav", "index.jsonl.old", "quarantine"])
def test_a_symbolic_link_is_found_and_its_target_not_changed(
    take: Artifact, root: Path, tmp_path: Path, part: str
) -> None:
    """A repair moves the link to quarantine, or refuses where this would hide a part of the store."""
    digest = take.content_hash
    path = root / part.replace("xx", digest[:2]).replace("h.wav", digest + ".wav")
    aside = tmp_path / "aside"
    if path.exists():
        path.rename(aside)
    else:
        aside.write_bytes(b"canary")
    before = aside.lstat()
    path.symlink_to(aside)

    assert "link" in kinds(root)
    if part in {"lock", "blobs", "quarantine"}:
        with pytest.raises(StoreError, match="symbolic link"):
            repair(root)
    else:
        assert repair(root).quarantined == 1
        assert set(kinds(root, full=True)) <= {"missing"}
    assert aside.lstat() == before


def test_an_index_that_is_a_symbolic_link_is_an_error(take: Artifact, root: Path, tmp_path: Path) -> None:
    """It is reported as a problem first, and then not followed."""
    (root / "index.jsonl").rename(tmp_path / "aside")
    (root / "index.jsonl").symlink_to(tmp_path / "aside")
    problems = check(root)

    assert next(problems).kind == "link"
    with pytest.raises(StoreError, match="symbolic link"):
        list(problems)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([head(), sealed({"op": "x-note"})[:-1]], ["tail"]),
        ([head(), put(name(1))[:50]], ["tail"]),
        ([b"\0" * 99], ["tail"]),
        ([sealed({"op": "x-first"})], ["head"]),
        ([head()[1:]], ["line"]),
        ([head(), b"\n", b"hello\n", sealed({"op": "x-note"})], ["line", "line"]),
        ([head(), head(gen="f" * 16)], ["head"]),
        ([head(), put(name(1)), put(name(1)), delete(name(1))], ["duplicate"]),
        ([head(), put(name(1)), tag(name(1), add=("a",)), put(name(1)), delete(name(1))], ["duplicate"]),
        ([head(), put(name(1)), delete(name(1)), put(name(1)), delete(name(1))], []),
        ([head(), tag(name(9), add=("a",)), delete(name(9)), sealed({"op": "x-new", "id": 7})], []),
    ],
)
def test_every_line_is_checked(by_hand: WriteIndex, root: Path, lines: list[bytes], expected: list[str]) -> None:
    """Each problem is reported once, and a legal line never."""
    by_hand(*lines)

    assert kinds(root) == expected
    repair(root)
    assert kinds(root) == []


def test_a_problem_has_the_number_of_its_line(by_hand: WriteIndex, root: Path) -> None:
    """The line can be opened in an editor."""
    by_hand(head(), sealed({"op": "x-note"}), b"bad\n")

    (problem,) = check(root)

    assert (problem.where, problem.message) == ("index.jsonl:3", "line 3 is damaged")


def test_a_line_of_a_newer_version_stops_the_check(by_hand: WriteIndex, root: Path) -> None:
    """Only the newer version knows what is right."""
    by_hand(head(), sealed({"op": "link"}))

    with pytest.raises(NewerStoreError):
        list(check(root))


def test_missing_audio_and_wrong_sizes_are_found(store: Store, root: Path) -> None:
    """No audio is read for this; a removed take needs no audio."""
    first, second, third = (store.put(sound(seed), draft()) for seed in range(3))
    store.blob_path(first).unlink()
    store.blob_path(second).chmod(0o600)
    store.blob_path(second).write_bytes(b"RIFF")
    store.blob_path(second).chmod(0o400)
    store.blob_path(third).unlink()
    store.remove([third.id])

    assert [(each.kind, each.where) for each in check(root)] == [("missing", first.id), ("size", second.id)]


def test_a_full_check_hashes_all_audio_again(store: Store, take: Artifact, root: Path) -> None:
    """It includes audio that no take uses."""
    store.remove([take.id])
    path = store.blob_path(take)
    path.chmod(0o600)
    path.write_bytes(sound(1))
    path.chmod(0o400)

    assert kinds(root) == []
    (problem,) = check(root, full=True)
    assert (problem.kind, problem.where) == ("audio", path.relative_to(root).as_posix())


def test_a_sector_that_cannot_be_read_does_not_stop_the_check(
    store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other blobs are still checked."""
    first, second = (store.put(sound(seed), draft()) for seed in range(2))
    broken = {store.blob_path(first), store.blob_path(second)}
    real = os.open

    def fail(path: Path, *args: Any, **kwargs: Any) -> int:
        if path in broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", fail)

    assert kinds(root, full=True) == ["audio", "audio"]


def test_a_check_changes_nothing(store: Store, take: Artifact, root: Path) -> None:
    """All bytes, names and modes stay the same, whatever it finds."""
    with (root / "index.jsonl").open("ab") as file:
        file.write(b"torn")
    before = {path: (path.lstat().st_mode, path.is_file() and path.read_bytes()) for path in root.rglob("*")}

    assert kinds(root, full=True) == ["tail"]
    assert {path: (path.lstat().st_mode, path.is_file() and path.read_bytes()) for path in root.rglob("*")} == before
