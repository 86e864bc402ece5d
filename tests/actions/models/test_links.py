"""Links that were planted where models are collected, replaced or removed; nothing behind them is touched."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from musicgen_cli.settings import cache_dir, models_dir, state_dir
from tests.support.command_line import Run
from tests.support.model_fixtures import Write

pytestmark = pytest.mark.skipif(os.name != "posix", reason="anybody can make links on POSIX alone")


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """Make a folder that must stay as it is."""
    folder = tmp_path / "precious"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a").write_bytes(b"abc")
    (folder / "b").write_bytes(b"def")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_staging_folder_that_is_a_link(musicgen: Run, write: Write, precious: Path) -> None:
    """The link is removed, and the model is pulled."""
    folder, before = write(), contents(precious)
    (models_dir() / ".pulling").mkdir(mode=0o700, parents=True)
    (models_dir() / ".pulling" / "mine").symlink_to(precious)
    (models_dir() / ".pulling" / "mine.old").symlink_to(precious)

    done = musicgen("model", "pull", folder)

    assert done.code == 0, done.err
    assert contents(precious) == before
    assert (models_dir() / "mine").is_dir()
    assert not (models_dir() / "mine").is_symlink()


def test_a_link_in_a_staging_folder(musicgen: Run, write: Write, precious: Path) -> None:
    """What it leads to is neither deleted nor written."""
    folder, before = write(), contents(precious)
    staging = models_dir() / ".pulling" / "mine"
    staging.mkdir(mode=0o700, parents=True)
    (staging / "graphs").symlink_to(precious)
    (staging / "config.json").symlink_to(precious / "b")

    done = musicgen("model", "pull", folder)

    assert done.code == 0, done.err
    assert contents(precious) == before


def test_a_folder_of_unfinished_pulls_that_is_a_link(musicgen: Run, write: Write, precious: Path) -> None:
    """It is refused."""
    before = contents(precious)
    models_dir().mkdir(parents=True)
    (models_dir() / ".pulling").symlink_to(precious)

    done = musicgen("model", "pull", write())

    assert done.code == 1
    assert "it is a symbolic link" in done.err
    assert contents(precious) == before


def test_a_model_that_is_a_link_is_removed_as_one(musicgen: Run, write: Write) -> None:
    """A user may keep a large model on another disk; removing it here removes the link."""
    assert musicgen("model", "pull", write()).code == 0
    elsewhere = models_dir().parent / "elsewhere"
    (models_dir() / "mine").rename(elsewhere)
    (models_dir() / "mine").symlink_to(elsewhere)
    before = contents(elsewhere)

    done = musicgen("model", "rm", "mine", "--yes")

    assert done.code == 0, done.err
    assert contents(elsewhere) == before
    assert sorted(path.name for path in models_dir().iterdir()) == [".pulling"]


def test_what_the_program_keeps_is_private_under_any_umask(
    musicgen: Run, write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Models, graphs, digests and stamps are 0600 in folders of 0700; what a user exports follows the umask."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("MUSICGEN_STORE", str(tmp_path / "store"))
    folder = write()
    old = os.umask(0)
    try:
        assert musicgen("model", "pull", folder, "--keep-weights").code == 0
        assert musicgen("generate", "calm", "--local", "--model", "auto", "-d", "0.5").code == 0
        assert musicgen("export", "last", "-o", tmp_path / "out" / "x.wav").code == 0
    finally:
        os.umask(old)

    kept = [
        path
        for top in (models_dir().parent, cache_dir(), state_dir(), tmp_path / "store")
        for path in (top, *top.rglob("*"))
    ]
    assert len(kept) > 20
    for path in kept:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert not mode & 0o077, f"{path} has {mode:04o}"
    assert stat.S_IMODE((tmp_path / "out" / "x.wav").stat().st_mode) == 0o666
