from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from musicgen_cli import atomic, foreign

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes and devices have names on POSIX alone")

Make = Callable[[Path], None]


def descriptors() -> int:
    """Count the open ones; 0 where that can't be told."""
    folder = Path("/proc/self/fd")
    return len([*folder.iterdir()]) if folder.is_dir() else 0


def link_to_zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


def socket_file(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            server.bind(f"/proc/self/fd/{folder}/{path.name}")  # an address has 108 bytes at most
        finally:
            os.close(folder)


@pytest.mark.parametrize("make", [os.mkfifo, link_to_zero, socket_file, Path.mkdir])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, make: Make) -> None:
    """Neither is a pipe waited for, nor a device read; and no descriptor stays open."""
    path = tmp_path / "x"
    make(path)
    before = descriptors()

    for _ in range(20):
        with pytest.raises(OSError):
            foreign.read(path, 100)
        with pytest.raises(OSError):
            atomic.open_fd(path, os.O_RDWR)

    assert descriptors() == before


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    """A sparse file of 50 GB is refused by its size, before anything is allocated."""
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert foreign.read(path, 3) == b"abc"
    with pytest.raises(OSError, match="larger than 2 bytes"):
        foreign.read(path, 2)

    os.truncate(path, 50 << 30)

    with pytest.raises(OSError, match="larger than 1048576 bytes"):
        foreign.read(path, 1 << 20)


def test_a_file_that_says_it_is_empty_is_bounded_too() -> None:
    """Those of /proc have no size."""
    with pytest.raises(OSError, match="larger than 10 bytes"):
        foreign.read(Path("/proc/self/status"), 10)


def test_a_link_is_followed_only_if_that_is_asked_for(tmp_path: Path) -> None:
    """Users link the files of models; nobody links what is in a store."""
    (tmp_path / "x").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("x")

    assert foreign.read(tmp_path / "link", 10) == b"abc"
    with pytest.raises(OSError, match=r"[Ss]ymbolic"):
        foreign.read(tmp_path / "link", 10, follow=False)


@pytest.mark.parametrize(("mode", "is_ours"), [(0o600, True), (0o644, True), (0o664, False), (0o606, False)])
def test_who_else_could_have_written_a_file(tmp_path: Path, mode: int, is_ours: bool) -> None:
    """Who may only read it doesn't count."""
    (tmp_path / "x").touch()
    (tmp_path / "x").chmod(mode)

    assert (foreign.who_else((tmp_path / "x").stat()) is None) == is_ours


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_somebody_else_is_theirs_whatever_its_mode(tmp_path: Path) -> None:
    """Unless they are trusted."""
    (tmp_path / "x").touch(0o600)
    os.chown(tmp_path / "x", 54321, 54321)
    status = (tmp_path / "x").stat()

    assert foreign.who_else(status) == "it belongs to user 54321"
    assert foreign.who_else(status, trusted=(54321,)) is None


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_what_is_private_is_so_under_any_umask(tmp_path: Path, umask: int) -> None:
    """Folders above are made private, too."""
    old = os.umask(umask)
    try:
        atomic.make_private_folder(tmp_path / "a" / "b")
        with atomic.open_private(tmp_path / "a" / "b" / "x") as file:
            file.write(b"abc")
    finally:
        os.umask(old)

    modes = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a", tmp_path / "a/b", tmp_path / "a/b/x")]
    assert modes == [0o700, 0o700, 0o600]


@pytest.mark.parametrize("make", [os.mkfifo, socket_file])
def test_a_pipe_or_a_socket_is_not_replaced(tmp_path: Path, make: Make) -> None:
    """Programs rely on it; a regular file and a link are replaced."""
    make(tmp_path / "x")
    with pytest.raises(OSError, match="not a regular file"):
        atomic.write(tmp_path / "x", b"abc")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]

    (tmp_path / "x").unlink()
    (tmp_path / "x").symlink_to("nowhere")
    atomic.write(tmp_path / "x", b"abc")

    assert (tmp_path / "x").read_bytes() == b"abc"
