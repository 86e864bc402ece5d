from __future__ import annotations

from pathlib import Path

import pytest

from musicgen_cli.errors import (
    AmbiguousIdError,
    DamagedError,
    NotFoundError,
)
from musicgen_cli.store import Filter, Store
from tests.support.index_lines import WriteIndex, delete, draft, head, lines_of, name, put, sound
from tests.support.other_processes import before_next_lock

A, B = name(0xA1111), name(0xA2222)


def test_a_restored_take_is_complete(store: Store) -> None:
    """It has the same id, tags and other members, and is the newest take."""
    take = store.put(sound(), draft(tags=("a", "b"), seed=7, unknown={"later": [1]}, extra={"x": 1}))
    (take,) = store.tag([take.id], add=["c"], rm=["a"])
    other = store.put(sound(1), draft())
    store.remove([take.id])

    assert store.restore(take.id) == take

    assert store.get(take.id) == take
    assert list(store.newest(None)) == [take, other]
    assert list(store.newest(None, Filter(tags=("c",)))) == [take]
    assert list(store.newest(None, Filter(tags=("a",)))) == []
    assert store.tag([take.id], add=["d"])[0].tags == ("b", "c", "d")
    assert store.get("last").tags == ("b", "c", "d")


def test_only_a_removed_take_can_be_restored(store: Store, root: Path) -> None:
    """Restoring a live or an unknown take, or one twice, is an error, and writes nothing."""
    take, other = store.put(sound(), draft()), store.put(sound(1), draft())
    with pytest.raises(NotFoundError, match="no removed take matches 'last'"):
        store.restore("last")
    store.remove([take.id])
    store.restore(take.id)
    before = lines_of(root)

    for ref in (take.id, take.id[9:14], other.id):
        with pytest.raises(NotFoundError, match="is not removed"):
            store.restore(ref)
    for ref in ("last", A, "nothing", ""):
        with pytest.raises(NotFoundError, match=f"no removed take matches '{ref}'"):
            store.restore(ref)

    assert lines_of(root) == before


def test_last_is_the_take_that_was_removed_last(store: Store) -> None:
    """Restoring `last` again and again undoes the removals one by one."""
    takes = [store.put(sound(i), draft()) for i in range(3)]
    for i in (1, 0, 2):
        store.remove([takes[i].id])

    assert [store.restore("last").id for _ in takes] == [takes[i].id for i in (2, 0, 1)]


def test_a_prefix_is_searched_among_the_removed_takes(store: Store, index: WriteIndex, root: Path) -> None:
    """It is ambiguous if two removed takes match; a live take with the same prefix doesn't matter."""
    index(head(), put(A), put(B), delete(A), delete(B))
    with pytest.raises(AmbiguousIdError) as caught:
        store.restore("0000000a")
    assert caught.value.candidates == [A, B]

    take = store.put(sound(), draft())
    store.remove([take.id])
    twin = store.put(sound(), draft())
    assert twin.id.startswith(take.id)
    assert store.restore(take.id[:15]) == take


@pytest.mark.parametrize("harm", ["missing", "wrong", "deleted before the lock"])
def test_a_take_without_its_audio_is_not_restored(
    store: Store, root: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    """It could be listed, but not played."""
    take = store.put(sound(), draft())
    store.remove([take.id])
    before = lines_of(root)
    blob = store.blob_path(take)
    if harm == "wrong":
        blob.chmod(0o600)
        blob.write_bytes(sound(1))
    elif harm == "missing":
        blob.unlink()
    else:
        before_next_lock(monkeypatch, blob.unlink)

    with pytest.raises(DamagedError):
        store.restore(take.id)

    assert lines_of(root) == before


@pytest.mark.parametrize("change", ["restored", "forgotten"])
def test_a_take_restored_or_forgotten_while_waiting_for_the_lock_is_not_restored(
    store: Store, root: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """The index is searched again under the lock."""
    take = store.put(sound(), draft())
    store.remove([take.id])
    path = root / "index.jsonl"

    def meanwhile() -> None:
        if change == "restored":
            Store(root).restore(take.id)
        else:
            path.write_bytes(head(gen="f" * 16))

    before_next_lock(monkeypatch, meanwhile)

    with pytest.raises(NotFoundError):
        store.restore(take.id)

    assert len(list(store.newest(None))) == (change == "restored")
