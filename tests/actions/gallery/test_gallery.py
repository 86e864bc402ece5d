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
from tests.support import fakes, gallery_takes


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def put(store: Store, seed: int, **more: Any) -> Artifact:
    fields: dict[str, Any] = {"tags": (), "prompt": f"take {seed}", "params": {}, "creator": "me", "origin": {}} | more
    return store.put(fakes.tone(seed=seed), ArtifactDraft(**fields))


def make(
    folder: Path,
    store: Store,
    *,
    embed: bool = False,
    on_damaged: Callable[[Artifact, DamagedError], None] = lambda *_: None,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> Gallery:
    """Build a gallery of all takes."""
    takes = list(store.newest(None))
    check(folder, takes, embed=embed, force=False)
    return build(folder, takes, store, embed=embed, on_damaged=on_damaged, on_progress=on_progress)


def files(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files in a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_gallery_is_a_page_and_copies_of_the_sounds(store: Store, tmp_path: Path) -> None:
    """Each sound is there once, under its SHA-256, however many takes have it."""
    one, two = put(store, 1), put(store, 2)
    put(store, 1, prompt="the same again")
    gallery = make(tmp_path / "deep" / "gallery", store)

    contents = files(tmp_path / "deep" / "gallery")
    assert gallery == Gallery(tmp_path / "deep" / "gallery" / "index.html", takes=3, damaged=0, unused=0)
    assert {*contents} == {"index.html", f"audio/{one.content_hash}.wav", f"audio/{two.content_hash}.wav"}
    assert contents[f"audio/{one.content_hash}.wav"] == fakes.tone(seed=1)


def test_the_same_takes_make_the_same_page(store: Store, tmp_path: Path) -> None:
    """And an intact copy is not written again."""
    put(store, 1)
    folder = tmp_path / "gallery"
    make(folder, store)
    before = files(folder)
    (sound,) = (folder / "audio").iterdir()
    inode = sound.stat().st_ino
    make(folder, store)

    assert files(folder) == before
    assert sound.stat().st_ino == inode


def test_a_damaged_copy_and_a_link_are_replaced(store: Store, tmp_path: Path) -> None:
    """The name says what the bytes must be, and a link is not followed."""
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


def test_sounds_that_are_no_longer_shown_stay_and_are_counted(store: Store, tmp_path: Path) -> None:
    """One may be the last copy; other files in the folder stay, and are not counted."""
    put(store, 1)
    one = put(store, 2)
    folder = tmp_path / "gallery"
    make(folder, store)
    (folder / "audio" / "mine.wav").write_bytes(b"mine")
    store.remove([one.id])
    gallery = make(folder, store)

    assert (gallery.takes, gallery.unused) == (1, 1)
    assert {"audio/mine.wav", f"audio/{one.content_hash}.wav"} <= {*files(folder)}
    assert one.content_hash not in files(folder)["index.html"].decode()


@pytest.mark.parametrize("page", [b"<!doctype html>my own page", b"", b"x" * 9000])
def test_a_page_that_is_not_a_gallery_s_is_not_replaced(store: Store, tmp_path: Path, page: bytes) -> None:
    """Unless `force` is True."""
    put(store, 1)
    (tmp_path / "index.html").write_bytes(page)

    with pytest.raises(TargetError, match=r"not a gallery's page"):
        check(tmp_path, [], embed=False, force=False)
    check(tmp_path, [], embed=False, force=True)


def test_a_page_is_not_written_over_a_link_or_a_folder_or_into_a_file(store: Store, tmp_path: Path) -> None:
    """Not even where the link leads to another gallery's page."""
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
    """Each of its sounds is there, and no incomplete file."""
    put(store, 1)
    folder = tmp_path / "gallery"
    make(folder, store)
    page = files(folder)["index.html"]
    put(store, 2)
    put(store, 3)

    def interrupt(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(folder, store, on_progress=interrupt)
    assert files(folder)["index.html"] == page
    assert all(len(sound) == len(fakes.tone()) for name, sound in files(folder).items() if name != "index.html")


def test_a_full_disk_leaves_the_old_page(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what failed."""
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


def damage(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"!")


@pytest.mark.parametrize("harm", [damage, Path.unlink])
def test_a_take_with_a_damaged_sound_is_not_shown(store: Store, tmp_path: Path, harm: Callable[[Path], None]) -> None:
    """The other takes are."""
    one = put(store, 1)
    put(store, 2)
    harm(store.blob_path(one))
    reported: list[Artifact] = []
    gallery = make(tmp_path / "gallery", store, on_damaged=lambda take, _: reported.append(take))

    assert (gallery.takes, gallery.damaged) == (1, 1)
    assert [take.id for take in reported] == [one.id]
    assert not (tmp_path / "gallery" / "audio" / f"{one.content_hash}.wav").exists()
    assert one.id not in gallery.page.read_text()


def test_embedding_makes_one_file(store: Store, tmp_path: Path) -> None:
    """Up to a limit that is checked before anything is written."""
    take = put(store, 1)
    make(tmp_path / "gallery", store, embed=True)

    assert {*files(tmp_path / "gallery")} == {"index.html"}
    with pytest.raises(UsageError, match=r"52\.8 MB, and a page can hold at most 50\.0 MB"):
        check(tmp_path / "other", [take] * (EMBED_BYTES // take.bytes * 1056 // 1000), embed=True, force=False)
    assert not (tmp_path / "other").exists()


def test_a_seam_is_marked_where_the_new_sound_begins(store: Store, tmp_path: Path) -> None:
    """And the details say what it goes on from, with the command that makes it again."""
    source = gallery_takes.put(store, "low drone", seed=1)
    member = {
        "id": source.id,
        "content_hash": source.content_hash,
        "duration": gallery_takes.SECONDS / 4,
        "context_s": 12.0,
    }
    gallery_takes.put(store, "low drone", seed=2, extra={"continue": member})
    gallery_takes.put(store, "low drone", seed=3, extra={"continue": member | {"duration": "<b>"}})
    page = gallery_takes.build_gallery(store, tmp_path / "gallery").read_text()

    assert page.count('class="seam"') == 1
    assert '<path class="seam" d="M24.00 -32v64"/>' in page
    assert f"goes on from {source.id}, 30 s, of which the model read the last 12 s" in page
    assert f"<i>--continue</i> {source.id}" in page
