from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from musicgen_cli.errors import NewerStoreError, StoreError
from musicgen_cli.store import Store
from musicgen_cli.store.journal import BACKWARD, FORWARD, Journal
from musicgen_cli.store.lines import decode
from tests.support.index_lines import WriteIndex, delete, draft, head, name, put, sealed, sound, tag


def fail_on_warning(kind: str, line: str) -> None:
    raise AssertionError(line)


def test_a_new_index_starts_with_a_head(store: Store, root: Path) -> None:
    """The first line contains the format, its version and a random generation."""
    store.put(sound(), draft())

    first = (root / "index.jsonl").read_bytes().splitlines(keepends=True)[0]
    members = json.loads(first)

    assert first == head(gen=members["gen"], created=members["created"])
    assert len(members["gen"]) == 16
    assert members["gen"] != "0123456789abcdef"


@pytest.mark.skipif(not shutil.which("jq"), reason="jq is not installed")
def test_jq_reads_every_line(store: Store, root: Path, index: WriteIndex) -> None:
    """The index is plain JSON Lines for other tools, including edits with their TAB."""
    store.put(sound(), draft("é\u2028 \x00 \x7f 🎵 [verse]"))
    with (root / "index.jsonl").open("ab") as file:
        file.write(tag(name(1), add=("é",)) + delete(name(1)) + sealed({"op": "x-later"}))

    done = subprocess.run(["jq", "-c", ".op", root / "index.jsonl"], capture_output=True, check=True)

    assert done.stdout.split() == [b'"head"', b'"put"', b'"tag"', b'"del"', b'"x-later"']


def test_a_bad_first_line_is_like_any_bad_line(store: Store, index: WriteIndex, warnings: list[str]) -> None:
    """Version 1 is assumed, and the store can be read and written."""
    index(head()[:-5] + b"\n", put(name(1)))

    added = store.put(sound(), draft())

    assert [artifact.id for artifact in store.newest(None)] == [added.id, name(1)]
    assert store.stats().bad_lines == 1
    assert len(warnings) == 1


def test_an_index_without_a_head_loses_no_line(store: Store, index: WriteIndex, warnings: list[str]) -> None:
    """A first line that is a good `put` is read like any other."""
    index(put(name(1)), put(name(2)))

    assert [artifact.id for artifact in store.newest(None)] == [name(2), name(1)]
    assert store.get(name(1)).id == name(1)
    assert store.stats().lines == 2
    assert not warnings


@pytest.mark.parametrize(
    "line",
    [head(version=2), head(version=2, more="x"), sealed({"op": "link", "id": name(1)}), sealed({"op": "zap"}, "\t")],
)
@pytest.mark.parametrize("first", [True, False])
def test_what_a_newer_version_wrote_stops_reading_and_writing(
    line: bytes, first: bool, store: Store, index: WriteIndex, root: Path
) -> None:
    """An unknown op or a higher version is an error, and nothing is written."""
    path = index(*([line] if first else [head(), put(name(1)), line]), put(name(2)))
    before = path.read_bytes()

    actions: list[Callable[[], object]] = [
        lambda: list(store.newest(None)),
        lambda: store.put(sound(), draft()),
        store.stats,
    ]
    for action in actions:
        with pytest.raises(NewerStoreError) as caught:
            action()
        assert "newer version" in str(caught.value)
        assert caught.value.hint

    assert path.read_bytes() == before
    assert not list((root / "blobs").iterdir())


def test_the_head_is_checked_again_under_the_lock(root: Path, index: WriteIndex) -> None:
    """A newer version may replace the index while a writer waits."""
    index(head(version=2))

    with pytest.raises(NewerStoreError), Journal(root, fail_on_warning).appending():
        pass


def test_an_unknown_op_deep_in_the_index_stops_writing(store: Store, index: WriteIndex) -> None:
    """A writer checks the whole index, also between thousands of puts and edits."""
    many = [put(name(i)) for i in range(3000)] + [tag(name(3), add=("t",)) for _ in range(50)]
    path = index(head(), *many, sealed({"op": "link"}), *many)
    before = path.stat().st_size
    assert before > 2 * FORWARD

    with pytest.raises(NewerStoreError):
        store.put(sound(), draft())

    assert path.stat().st_size == before


def test_an_op_that_starts_with_x_is_ignored(store: Store, index: WriteIndex, warnings: list[str]) -> None:
    """Such a line may have any members, with or without a TAB."""
    index(
        head(),
        put(name(1)),
        sealed({"op": "x-a", "id": name(1)}, "\t"),
        sealed({"op": "x-b", "id": [1], "tags": 7}),
        sealed({"op": "x-"}),
    )

    assert store.get(name(1)).id == name(1)
    assert [artifact.id for artifact in store.newest(None)] == [name(1)]
    assert store.put(sound(), draft()) == store.get("last")
    assert store.stats().bad_lines == 0
    assert not warnings


def test_a_later_head_changes_nothing(store: Store, index: WriteIndex) -> None:
    """Only the first line is the head; another head line is ignored."""
    index(head(), put(name(1)), head(gen="f" * 16), put(name(2)))

    assert [artifact.id for artifact in store.newest(None)] == [name(2), name(1)]
    assert store.stats().bad_lines == 0


@pytest.mark.parametrize(
    "tail", [put(name(3))[:-1], put(name(3))[:50], b"{", b"\0" * 100, tag(name(2), add=("t",))[:-1]]
)
def test_a_torn_tail_is_ignored_by_readers_and_sealed_by_the_next_writer(
    tail: bytes, store: Store, index: WriteIndex, warnings: list[str]
) -> None:
    """The bytes after the last LF may be a write in progress, so they are never cut away."""
    path = index(head(), put(name(1)), put(name(2)), tail)
    before = path.read_bytes()

    assert [artifact.id for artifact in store.newest(None)] == [name(2), name(1)]
    assert store.get(name(2)).tags == ("type:audio",)
    assert store.stats().bad_lines == 0
    assert not warnings
    assert path.read_bytes() == before

    added = store.put(sound(), draft())

    after = path.read_bytes()
    assert after.startswith(before + b"\n{")
    assert after.count(b"\n") == before.count(b"\n") + 2
    assert store.newest(None).__next__() == added


def test_a_torn_first_line_is_sealed_too(store: Store, index: WriteIndex) -> None:
    """An index with nothing but half a head can be written, and has one bad line."""
    index(head()[:40])

    added = store.put(sound(), draft())

    assert [artifact.id for artifact in store.newest(None)] == [added.id]
    assert store.stats().bad_lines == 1


@pytest.mark.parametrize("length", [65_536, 200_000, 3 * FORWARD])
def test_a_line_that_is_too_long_hides_no_other_line(length: int, store: Store, index: WriteIndex) -> None:
    """A crash can leave a long run of zeros."""
    index(head(), put(name(1)), tag(name(1), add=("t",)), b"\0" * length + b"\n", put(name(2)))

    assert [artifact.id for artifact in store.newest(None)] == [name(2), name(1)]
    assert store.get(name(1)).tags == ("type:audio", "t")
    assert store.put(sound(), draft()) == store.get("last")
    assert store.stats().bad_lines == 1


def test_the_end_of_a_line_that_is_too_long_is_not_a_line(store: Store, index: WriteIndex) -> None:
    """The line stays bad even if its last block alone would be a good line."""
    longest = put(name(2), prompt="x" * (BACKWARD - len(put(name(2), prompt=""))))
    index(head(), put(name(1)), b"x" * BACKWARD + longest)
    assert len(longest) == BACKWARD == 65_536
    assert decode(longest[:-1]) is not None

    assert [artifact.id for artifact in store.newest(None)] == [name(1)]
    assert store.stats().bad_lines == 1


@pytest.mark.parametrize("block", [FORWARD, BACKWARD])
@pytest.mark.parametrize("off", [-1, 0, 1])
def test_lines_across_the_edge_of_a_block_are_read(block: int, off: int, store: Store, index: WriteIndex) -> None:
    """It doesn't matter whether a block ends before, at or after an LF, in either direction of reading."""
    first, last = put(name(1)), put(name(3))
    room = block + off - len(first) - len(head()) if block == FORWARD else block + off - len(last)
    filler = b"".join(put(name(i + 100)) for i in range(room // len(first) - 1))
    rest = room - len(filler) - len(put(name(2), prompt=""))
    index(head(), first, filler, put(name(2), prompt="x" * rest), last)

    names = [artifact.id for artifact in store.newest(None)]

    assert names[0] == name(3)
    assert names[1] == name(2)
    assert names[-1] == name(1)
    assert len(names) == 3 + filler.count(b"\n")
    assert [store.get(name(i)).id for i in (1, 2, 3)] == [name(1), name(2), name(3)]


def test_a_reader_sees_the_index_as_it_was_when_it_was_opened(store: Store, index: WriteIndex) -> None:
    """Lines that are appended during a listing are not listed."""
    path = index(head(), *(put(name(i)) for i in range(1, 1000)))
    listing = store.newest(None)
    next(listing)

    with path.open("ab") as file:
        file.write(delete(name(1)) + put(name(2000)))

    assert len(list(listing)) == 998


def test_a_short_write_is_undone(store: Store, index: WriteIndex, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The written part of the line is removed again, and the put fails."""
    path = index(head(), put(name(1)))
    before = path.read_bytes()
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data)[:30] if data[:5] == b'{"op"' else data))

    with pytest.raises(StoreError, match="only 30 of") as caught:
        store.put(sound(), draft())

    assert path.read_bytes() == before
    assert caught.value.hint


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_line_that_cannot_be_synced_is_undone(
    code: int, store: Store, index: WriteIndex, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed fsync is not tried again, and the line is removed."""
    path = index(head(), put(name(1)))
    before = path.read_bytes()
    fsync = os.fsync
    calls: list[int] = []

    def fail(fd: int) -> None:
        if os.path.samestat(os.fstat(fd), path.stat()):
            calls.append(fd)
            raise OSError(code, os.strerror(code))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", fail)

    with pytest.raises(StoreError, match=os.strerror(code).lower()):
        store.put(sound(), draft())

    assert len(calls) == 1
    assert path.read_bytes() == before


def test_a_line_of_another_writer_is_never_cut_away(
    store: Store, index: WriteIndex, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If another writer ignored the lock, a failed write is not undone, so that the other line stays."""
    path = index(head(), put(name(1)))
    theirs = put(name(2))
    fsync = os.fsync

    def fail(fd: int) -> None:
        if os.path.samestat(os.fstat(fd), path.stat()):
            with path.open("ab") as file:
                file.write(theirs)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", fail)

    with pytest.raises(StoreError):
        store.put(sound(), draft())

    assert path.read_bytes().endswith(theirs)
    assert store.get(name(2)).id == name(2)


def test_a_lock_without_effect_is_noticed(
    store: Store, index: WriteIndex, root: Path, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that lands after another writer's is good, and the user is warned once."""
    path = index(head(), put(name(1)))
    write = os.write

    def intrude(fd: int, data: bytes) -> int:
        if os.path.samestat(os.fstat(fd), path.stat()):
            with path.open("ab") as file:
                file.write(put(name(path.stat().st_size)))
        return write(fd, data)

    monkeypatch.setattr(os, "write", intrude)

    ids = [store.put(sound(i), draft()).id for i in range(2)]

    assert set(ids) <= {artifact.id for artifact in store.newest(None)}
    assert len(warnings) == 1
    assert "in spite of its lock" in warnings[0]


def test_several_lines_are_appended_with_one_write(
    root: Path, index: WriteIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines that are appended together are one write under one lock."""
    path = index(head(), put(name(1)))
    writes: list[bytes] = []
    write = os.write

    def record(fd: int, data: bytes) -> int:
        writes.append(bytes(data))
        return write(fd, data)

    monkeypatch.setattr(os, "write", record)

    with Journal(root, fail_on_warning).appending() as appender:
        appender.append([put(name(2)), tag(name(1), add=("t",))])

    assert writes == [put(name(2)) + tag(name(1), add=("t",))]
    assert path.read_bytes().endswith(writes[0])
