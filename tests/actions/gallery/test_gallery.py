from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from musicgen_cli.actions.gallery.gallery import Gallery, build, check
from musicgen_cli.errors import DamagedError, TargetError, UsageError
from musicgen_cli.limits import EMBED_BYTES
from musicgen_cli.store import Artifact, ArtifactDraft, Store
from tests.support import fakes


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def put(store: Store, seed: int, **more: Any) -> Artifact:
    known = {"tags": (), "prompt": f"take {seed}", "params": {}, "creator": "me", "origin": {}} | more
    return store.put(fakes.tone(seed=seed), ArtifactDraft(**known))


def make(folder: Path, store: Store, **more: Any) -> Gallery:
    takes = list(store.newest(None))
    given: dict[str, Any] = {"embed": False, "left_out": lambda *_: None, "done": lambda *_: None} | more
    check(folder, takes, embed=given["embed"], force=False)
    return build(folder, takes, store, **given)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_gallery_is_a_page_and_the_very_sounds(store: Store, tmp_path: Path) -> None:
    """Each sound once, under its SHA-256, however many takes have it."""
    one, two = put(store, 1), put(store, 2)
    put(store, 1, prompt="the same again")
    made = make(tmp_path / "deep" / "gallery", store)

    found = files(tmp_path / "deep" / "gallery")
    assert made == Gallery(tmp_path / "deep" / "gallery" / "index.html", takes=3, damaged=0, unused=0)
    assert {*found} == {"index.html", f"audio/{one.content_hash}.wav", f"audio/{two.content_hash}.wav"}
    assert found[f"audio/{one.content_hash}.wav"] == fakes.tone(seed=1)


def test_the_same_takes_make_the_same_page(store: Store, tmp_path: Path) -> None:
    """And a sound that is right is not written again."""
    put(store, 1)
    folder = tmp_path / "gallery"
    make(folder, store)
    before = files(folder)
    (sound,) = (folder / "audio").iterdir()
    inode = sound.stat().st_ino
    make(folder, store)

    assert files(folder) == before
    assert sound.stat().st_ino == inode


def test_a_wrong_copy_is_replaced_and_a_link_is_not_followed(store: Store, tmp_path: Path) -> None:
    """The name says what the bytes must be."""
    one, two = put(store, 1), put(store, 2)
    folder = tmp_path / "gallery"
    make(folder, store)
    canary = tmp_path / "canary"
    canary.write_bytes(b"alive")
    (folder / "audio" / f"{one.content_hash}.wav").write_bytes(b"half")
    link = folder / "audio" / f"{two.content_hash}.wav"
    link.unlink()
    link.symlink_to(canary)
    make(folder, store)

    assert files(folder)[f"audio/{one.content_hash}.wav"] == fakes.tone(seed=1)
    assert link.read_bytes() == fakes.tone(seed=2)
    assert canary.read_bytes() == b"alive"


def test_what_is_not_shown_any_more_is_left_and_counted(store: Store, tmp_path: Path) -> None:
    """It may be the last copy; other files in the folder are nobody's business."""
    put(store, 1)
    one = put(store, 2)
    folder = tmp_path / "gallery"
    make(folder, store)
    (folder / "audio" / "mine.wav").write_bytes(b"mine")
    store.remove([one.id])
    made = make(folder, store)

    assert (made.takes, made.unused) == (1, 1)
    assert {"audio/mine.wav", f"audio/{one.content_hash}.wav"} <= {*files(folder)}
    assert one.content_hash not in files(folder)["index.html"].decode()


@pytest.mark.parametrize("page", [b"<!doctype html>my own page", b"", b"x" * 9000])
def test_a_page_of_somebody_else_is_not_replaced(store: Store, tmp_path: Path, page: bytes) -> None:
    """Unless that was asked for."""
    put(store, 1)
    (tmp_path / "index.html").write_bytes(page)

    with pytest.raises(TargetError, match=r"no gallery's page"):
        check(tmp_path, [], embed=False, force=False)
    check(tmp_path, [], embed=False, force=True)


def test_a_link_a_folder_and_a_file_are_no_places_for_a_page(store: Store, tmp_path: Path) -> None:
    """A link to another gallery's page isn't followed, and nothing is put through it."""
    put(store, 1)
    make(tmp_path / "real", store)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "index.html").symlink_to(tmp_path / "real" / "index.html")
    (tmp_path / "holding" / "index.html").mkdir(parents=True)
    (tmp_path / "file").write_bytes(b"")
    for name in ("linked", "holding", "file"):
        with pytest.raises(TargetError):
            make(tmp_path / name, store)
    with pytest.raises(TargetError):
        check(tmp_path / "holding", [], embed=False, force=True)


def test_an_interrupted_build_leaves_the_old_page_whole(store: Store, tmp_path: Path) -> None:
    """Each of its sounds is there, and nothing half."""
    put(store, 1)
    folder = tmp_path / "gallery"
    make(folder, store)
    page = files(folder)["index.html"]
    put(store, 2)
    put(store, 3)

    def interrupt(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(folder, store, done=interrupt)
    assert files(folder)["index.html"] == page
    assert all(len(sound) == len(fakes.tone()) for name, sound in files(folder).items() if name != "index.html")


def test_a_full_disk_leaves_the_old_page(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an error that can be read."""
    put(store, 1)
    folder = tmp_path / "gallery"
    make(folder, store)
    before = files(folder)

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TargetError, match="No space left"):
        make(folder, store)
    assert files(folder) == before


def damaged(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"!")


@pytest.mark.parametrize("harm", [damaged, Path.unlink])
def test_a_damaged_sound_is_left_out(store: Store, tmp_path: Path, harm: Callable[[Path], None]) -> None:
    """The rest is shown."""
    one = put(store, 1)
    put(store, 2)
    harm(store.blob_path(one))
    heard: list[tuple[Artifact, DamagedError]] = []
    made = make(tmp_path / "gallery", store, left_out=lambda *what: heard.append(what))

    assert (made.takes, made.damaged) == (1, 1)
    assert [take.id for take, _ in heard] == [one.id]
    assert not (tmp_path / "gallery" / "audio" / f"{one.content_hash}.wav").exists()
    assert one.id not in made.page.read_text()


def test_embedding_makes_one_file(store: Store, tmp_path: Path) -> None:
    """Up to a bound that is told before anything is written."""
    take = put(store, 1)
    make(tmp_path / "gallery", store, embed=True)

    assert {*files(tmp_path / "gallery")} == {"index.html"}
    with pytest.raises(UsageError, match=r"52\.8 MB, and a page can hold at most 50\.0 MB"):
        check(tmp_path / "other", [take] * (EMBED_BYTES // take.bytes * 1056 // 1000), embed=True, force=False)
    assert not (tmp_path / "other").exists()
