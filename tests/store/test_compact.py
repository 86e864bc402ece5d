from __future__ import annotations

import errno
import os
import stat
import time
from pathlib import Path
from typing import NoReturn

import pytest

from musicgen_cli.errors import StoreError
from musicgen_cli.store import Store
from musicgen_cli.store.check import check
from musicgen_cli.store.maintenance import Compaction, compact
from tests.support.index_lines import (
    WriteIndex,
    delete,
    draft,
    head,
    lines_of,
    name,
    put,
    sealed,
    sound,
    tag,
)
from tests.support.other_processes import PUT_SOUNDS, TIMEOUT_S, before_next_lock, finish, start_python
from tests.support.store_files import names_starting

A, B = name(0xA), name(0xB)


def test_compaction_keeps_live_artifacts_with_their_tags(index: WriteIndex, root: Path, store: Store) -> None:
    """They stay in order, with unknown members and the `x-` lines between them; nothing else is left."""
    path = index(
        head(),
        put(A, prompt="ä", later={"a": [1.5]}),
        sealed({"op": "x-one", "id": A}),
        put(B),
        tag(A, add=("x", "y"), rm=("type:audio",)),
        sealed({"op": "x-two"}),
        put(name(1)),
        delete(name(1)),
        tag(A, rm=("x",)),
        tag(name(9), add=("x",)),
    )
    path.chmod(0o600)
    before, listed = path.read_bytes(), list(store.newest(None))

    result = compact(root)

    first, *rest = lines_of(root)
    assert rest == [
        put(A, prompt="ä", later={"a": [1.5]}, tags=["y"]),
        sealed({"op": "x-one", "id": A}),
        put(B),
        sealed({"op": "x-two"}),
    ]
    assert b'"gen":"0123456789abcdef"' not in first
    assert list(store.newest(None)) == listed
    assert (root / "index.jsonl.old").read_bytes() == before
    assert result == Compaction(True, 10, 5, len(before), path.stat().st_size)
    assert {stat.S_IMODE((root / each).stat().st_mode) for each in ("index.jsonl", "index.jsonl.old")} == {0o600}
    assert names_starting(root, "index.jsonl.tmp-") == []


def test_a_restored_take_is_compacted_to_one_line(store: Store, root: Path) -> None:
    """It is the newest take, with the tags that it had when it was restored and those added since."""
    first, second = (store.put(sound(seed), draft()) for seed in range(2))
    store.tag([first.id], add=["calm"])
    store.remove([first.id])
    store.restore(first.id)
    store.tag([first.id], add=["again"])

    compact(root)

    assert [(take.id, take.tags) for take in store.newest(None)] == [
        (first.id, ("type:audio", "calm", "again")),
        (second.id, second.tags),
    ]
    assert len(lines_of(root)) == 3


def test_compacting_twice_changes_only_the_head(store: Store, root: Path) -> None:
    """The generation is new each time."""
    store.put(sound(), draft())
    compact(root)
    once = lines_of(root)

    compact(root)

    assert lines_of(root)[1:] == once[1:]
    assert lines_of(root)[0] != once[0]


def test_forget_leaves_no_trace_of_a_removed_prompt(store: Store, root: Path) -> None:
    """It deletes the old index and the temporary file of a killed compaction."""
    store.put(sound(1), draft("stays"))
    secret = store.put(sound(), draft("a secret"))
    (root / "index.jsonl.tmp-1-00").write_bytes((root / "index.jsonl").read_bytes())
    compact(root)
    store.remove([secret.id])

    compact(root, forget=True)

    assert names_starting(root, "index.jsonl") == ["index.jsonl"]
    assert [path for path in root.rglob("*") if path.is_file() and b"a secret" in path.read_bytes()] == []


def test_a_full_disk_leaves_the_index_as_it_was(store: Store, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No temporary file stays, whichever step fails."""
    store.put(sound(), draft())
    before = (root / "index.jsonl").read_bytes()

    def disk_full(*args: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "full")

    for call in ("fsync", "link", "replace"):
        with monkeypatch.context() as patched:
            patched.setattr(os, call, disk_full)
            with pytest.raises(StoreError, match="full"):
                compact(root)
        assert (root / "index.jsonl").read_bytes() == before
        assert names_starting(root, "index.jsonl.tmp-") == []


def test_on_a_file_system_without_links_the_old_index_is_a_copy(
    store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy replaces the hard link."""
    store.put(sound(), draft())
    before = (root / "index.jsonl").read_bytes()

    def fail(*args: object) -> NoReturn:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", fail)
    compact(root)

    assert (root / "index.jsonl.old").read_bytes() == before
    assert list(check(root)) == []


def test_a_killed_compaction_is_completed_by_the_next(store: Store, root: Path) -> None:
    """It may have been killed when the old index had both names, before the new one was renamed."""
    store.put(sound(), draft())
    before = (root / "index.jsonl").read_bytes()
    (root / "index.jsonl.old").hardlink_to(root / "index.jsonl")

    compact(root)

    assert sorted(names_starting(root, "index.jsonl")) == ["index.jsonl", "index.jsonl.old"]
    assert (root / "index.jsonl.old").read_bytes() == before
    assert lines_of(root)[1:] == before.splitlines(keepends=True)[1:]
    assert lines_of(root)[0] != before.splitlines(keepends=True)[0]


def test_a_reader_keeps_the_file_it_opened(store: Store, index: WriteIndex) -> None:
    """A listing in progress is not changed by a compaction."""
    root = index(head(), *(put(name(i), prompt="x" * 1000) for i in range(300))).parent
    takes = store.newest(None)
    first = next(takes)

    compact(root, forget=True)

    assert [first.id, *(take.id for take in takes)] == [name(i) for i in reversed(range(300))]


def test_a_put_that_waited_for_a_compaction_writes_to_the_new_file(
    store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It opens the index after it has the lock, and searches the ids again."""
    first = store.put(sound(), draft("first"))
    second = store.put(sound(), draft("second"))
    store.remove([first.id])
    before_next_lock(monkeypatch, lambda: compact(root))

    third = store.put(sound(), draft("third"))

    assert third.id not in {first.id, second.id}
    assert [take.prompt for take in store.newest(None)] == ["third", second.prompt]
    assert list(check(root)) == []


def test_an_edit_that_waited_for_a_compaction_writes_to_the_new_file(
    store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It finds the artifact there."""
    removed, live = (store.put(sound(seed), draft()) for seed in range(2))
    store.remove([removed.id])
    before_next_lock(monkeypatch, lambda: compact(root))

    store.tag([live.id], add=["calm"])

    assert store.get(live.id).tags == ("type:audio", "calm")
    assert len(lines_of(root)) == 3


def test_writers_and_compactions_together_lose_nothing(store: Store, root: Path) -> None:
    """Two processes put takes while this one compacts again and again."""
    store.put(sound(99), draft())
    writers = [start_python(PUT_SOUNDS, root, *range(start, start + 8)) for start in (0, 100)]
    deadline = time.monotonic() + TIMEOUT_S
    while any(writer.poll() is None for writer in writers) and time.monotonic() < deadline:
        compact(root)
    results = [finish(writer) for writer in writers]

    ids = [line for _, out, _ in results for line in out.split()]
    assert [code for code, _, _ in results] == [0, 0]
    assert len(ids) == 16
    assert set(ids) <= {take.id for take in store.newest(None)}
    assert list(check(root, full=True)) == []
