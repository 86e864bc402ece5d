from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from musicgen_cli import atomic


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def failing(error: BaseException) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


@pytest.fixture
def _umask() -> object:
    old = os.umask(0o027)
    yield
    os.umask(old)


@pytest.mark.usefixtures("_umask")
@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
@pytest.mark.parametrize(
    ("mode", "expected"), [(atomic.PRIVATE, 0o600), (atomic.READ_ONLY, 0o400), (atomic.SHARED, 0o640)]
)
def test_a_file_has_its_bytes_and_permissions(tmp_path: Path, mode: int, expected: int) -> None:
    """The umask applies, and no temporary is left."""
    atomic.write(tmp_path / "x", b"abc", mode=mode)

    assert (tmp_path / "x").read_bytes() == b"abc"
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == expected
    assert names(tmp_path) == ["x"]


def test_a_write_that_comes_short_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may write fewer bytes than it is given."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:3]))

    atomic.write(tmp_path / "x", b"abcdefgh")

    assert (tmp_path / "x").read_bytes() == b"abcdefgh"


def test_a_file_that_is_there_is_replaced(tmp_path: Path) -> None:
    """Overwriting is the default."""
    (tmp_path / "x").write_bytes(b"old")

    atomic.write(tmp_path / "x", b"new")

    assert (tmp_path / "x").read_bytes() == b"new"


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_may_not_be_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, links: bool) -> None:
    """The file system may have hard links or not."""
    if not links:
        monkeypatch.setattr(os, "link", failing(PermissionError(errno.EPERM, "not permitted")))
    (tmp_path / "x").write_bytes(b"old")

    with pytest.raises(FileExistsError):
        atomic.write(tmp_path / "x", b"new", overwrite=False)

    assert (tmp_path / "x").read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


@pytest.mark.usefixtures("_umask")
@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
@pytest.mark.parametrize("code", [None, errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS])
def test_a_new_name_is_written_without_overwriting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int | None
) -> None:
    """The file is made by a hard link, or by a copy with the same permissions."""
    if code is not None:
        monkeypatch.setattr(os, "link", failing(OSError(code, os.strerror(code))))

    atomic.write(tmp_path / "x", b"abc", mode=atomic.SHARED, overwrite=False)

    assert (tmp_path / "x").read_bytes() == b"abc"
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640
    assert (tmp_path / "x").stat().st_nlink == 1
    assert names(tmp_path) == ["x"]


def test_a_copy_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are no hard links, the file is written in place, and removed if that fails."""
    monkeypatch.setattr(os, "link", failing(PermissionError(errno.EPERM, "not permitted")))
    calls = []

    def fsync(fd: int) -> None:
        calls.append(fd)
        if len(calls) == 2:  # the first is the temporary's
            raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="full"):
        atomic.write(tmp_path / "x", b"abc", overwrite=False)

    assert names(tmp_path) == []


def test_a_copy_that_cant_be_begun_leaves_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that another program made is never removed, even if the copy fails."""
    monkeypatch.setattr(os, "link", failing(PermissionError(errno.EPERM, "not permitted")))
    (tmp_path / "x").write_bytes(b"old")
    real = os.open

    def limited(path: Path, flags: int, mode: int = 0o777) -> int:
        if Path(path).name == "x":
            raise OSError(errno.EMFILE, "too many open files")
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", limited)
    with pytest.raises(OSError, match="too many"):
        atomic.write(tmp_path / "x", b"abc", overwrite=False)

    assert (tmp_path / "x").read_bytes() == b"old"


@pytest.mark.parametrize("call", ["write", "fchmod", "fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_a_write_that_fails_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: BaseException
) -> None:
    """Whatever stops it, Ctrl-C included: the old bytes stay, and no temporary is left."""
    (tmp_path / "x").write_bytes(b"old")
    monkeypatch.setattr(os, call, failing(error))

    with pytest.raises(type(error)):
        atomic.write(tmp_path / "x", b"new", mode=atomic.READ_ONLY)

    assert (tmp_path / "x").read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_symbolic_link_is_never_written_through(tmp_path: Path, *, overwrite: bool) -> None:
    """A link is replaced, or counts as an existing file."""
    (tmp_path / "target").write_bytes(b"precious")
    (tmp_path / "x").symlink_to(tmp_path / "target")

    if overwrite:
        atomic.write(tmp_path / "x", b"new")
    else:
        with pytest.raises(FileExistsError):
            atomic.write(tmp_path / "x", b"new", overwrite=False)

    assert (tmp_path / "target").read_bytes() == b"precious"
    assert (tmp_path / "x").is_symlink() is not overwrite


@pytest.mark.parametrize("durable", [True, False])
def test_bytes_are_on_the_disk_before_the_name_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, durable: bool
) -> None:
    """Otherwise a crash could leave an empty file; only a file that isn't durable skips the sync."""
    events = []
    replace = os.replace

    def on_replace(source: Path, target: Path) -> None:
        events.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", lambda fd: events.append("fsync"))
    monkeypatch.setattr(os, "replace", on_replace)

    atomic.write(tmp_path / "x", b"abc", durable=durable)

    assert events == (["fsync", "replace"] if durable else ["replace"])


def test_the_temporary_has_the_prefix_that_was_asked_for(tmp_path: Path) -> None:
    """It lies in the same folder, and two temporaries never have the same name."""
    with atomic.replacing(tmp_path / "x", prefix="x.tmp-") as one, atomic.replacing(tmp_path / "x") as two:
        one.write_bytes(b"one")
        two.write_bytes(b"two")

        assert names(tmp_path) == sorted([one.name, two.name])

    assert one.name.startswith("x.tmp-")
    assert two.name.startswith(atomic.TEMPORARY)
    assert (tmp_path / "x").read_bytes() == b"one"


def test_a_file_in_pieces_is_synced_or_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All bytes are on the disk when the block ends; if it raises, the file is removed."""
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_size))
    with atomic.new_file(tmp_path / "x") as file:
        file.write(b"abc")
        file.write(b"def")
    with pytest.raises(TypeError), atomic.new_file(tmp_path / "y") as file:
        file.writelines([b"abc", None])  # type: ignore[list-item]
    with pytest.raises(FileExistsError), atomic.new_file(tmp_path / "x"):
        pass

    assert synced == [6]
    assert names(tmp_path) == ["x"]
    assert (tmp_path / "x").read_bytes() == b"abcdef"


def test_discarding_never_fails(tmp_path: Path) -> None:
    """Neither a missing file nor a folder in its place is an error."""
    (tmp_path / "folder").mkdir()

    atomic.discard(tmp_path / "gone")
    atomic.discard(tmp_path / "folder")

    assert names(tmp_path) == ["folder"]
