from __future__ import annotations

import os
from pathlib import Path

import pytest

from musicgen_cli.checkpoint.digest_cache import fingerprint, read_cached, write_cached


def test_a_cached_value_is_read_again(tmp_path: Path) -> None:
    """Only under its kind and key; the newest value counts, and leaves no other file."""
    write_cached(tmp_path, "digests", "a/é\ud800", "1")
    write_cached(tmp_path, "digests", "a/é\ud800", "2")

    assert read_cached(tmp_path, "digests", "a/é\ud800") == "2"
    assert read_cached(tmp_path, "fidelity", "a/é\ud800") is None
    assert read_cached(tmp_path, "digests", "b") is None
    assert len(list((tmp_path / "digests").iterdir())) == 1


def test_a_cache_that_cant_be_written_is_not_an_error(tmp_path: Path) -> None:
    """It counts as a cache miss."""
    (tmp_path / "digests").write_text("in the way")
    write_cached(tmp_path, "digests", "a", "1")

    assert read_cached(tmp_path, "digests", "a") is None


@pytest.mark.parametrize("change", ["size", "time", "inode", "path"])
def test_a_changed_file_has_another_fingerprint(tmp_path: Path, change: str) -> None:
    """Whether its size, time, inode or path changed."""
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    os.utime(path, ns=(10**18, 10**18))
    before = fingerprint([path])
    assert fingerprint([path]) == before
    if change == "size":
        path.write_bytes(b"abcd")
    if change == "inode":
        other = tmp_path / "y"
        other.write_bytes(b"abd")
        other.replace(path)
    if change == "path":
        path = path.rename(tmp_path / "z")
    os.utime(path, ns=(10**18, 10**18 + (change == "time")))

    assert before is not None
    assert fingerprint([path]) != before


def test_a_file_that_was_modified_just_now_has_no_fingerprint(tmp_path: Path) -> None:
    """It could be modified again without a new time stamp."""
    (tmp_path / "x").write_bytes(b"abc")

    assert fingerprint([tmp_path / "x"]) is None
