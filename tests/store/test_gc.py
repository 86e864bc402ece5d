from __future__ import annotations

from pathlib import Path

import pytest

from musicgen_cli.errors import DamagedError, StoreError
from musicgen_cli.store import Store
from musicgen_cli.store.check import check
from musicgen_cli.store.maintenance import Garbage, gc
from tests.support.index_lines import (
    draft,
    sound,
)
from tests.support.other_processes import before_next_lock
from tests.support.store_files import contents, make_old


def test_gc_deletes_old_files_that_no_live_take_uses(store: Store, root: Path) -> None:
    """These are the audio of removed takes, unless another take shares it, and unfinished writes."""
    live, shared, removed = (store.put(sound(seed), draft()) for seed in range(3))
    twin = store.put(sound(1), draft("twin"))
    store.remove([shared.id, removed.id])
    folder = store.blob_path(live).parent
    (folder / ".tmp-1-aa").write_bytes(b"12345")
    (folder / "notes.txt").write_bytes(b"")
    (root / "index.jsonl.tmp-1-aa").write_bytes(b"123")
    make_old(root)
    fresh = store.put(sound(4), draft())
    store.remove([fresh.id])
    (folder / ".tmp-1-bb").write_bytes(b"")
    before = contents(root)

    result = gc(root)

    assert result == Garbage(False, 1, len(sound()), 2, 8)
    assert contents(root) == before
    assert gc(root, yes=True) == Garbage(True, 1, len(sound()), 2, 8)
    deleted = set(before) - set(contents(root))
    paths = (store.blob_path(removed), folder / ".tmp-1-aa", root / "index.jsonl.tmp-1-aa")
    assert deleted == {str(path.relative_to(root)) for path in paths}
    assert store.read_blob(live) == sound(0)
    assert store.read_blob(twin) == sound(1)
    assert gc(root, yes=True) == Garbage(True)


def test_gc_refuses_a_store_without_an_index(store: Store, root: Path) -> None:
    """If the index is lost, the audio must not be deleted as well."""
    take = store.put(sound(), draft())
    (root / "index.jsonl").unlink()
    make_old(root)

    with pytest.raises(DamagedError, match="no index") as caught:
        gc(root, yes=True)

    assert "--adopt" in (caught.value.hint or "")
    assert store.blob_path(take).exists()


def test_a_put_writes_its_audio_again_if_gc_deleted_it(
    store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It relied on the old audio of a removed take, which is deleted just before it takes the lock."""
    removed = store.put(sound(), draft())
    store.remove([removed.id])
    make_old(root)
    deleted: list[int] = []
    before_next_lock(monkeypatch, lambda: deleted.append(gc(root, yes=True).blobs))

    take = store.put(sound(), draft("again"))

    assert deleted == [1]
    assert store.read_blob(take) == sound()
    assert list(check(root, full=True)) == []


@pytest.mark.parametrize("part", ["blobs", "blobs/xx"])
def test_nothing_is_written_or_deleted_through_a_symbolic_link(
    store: Store, root: Path, tmp_path: Path, part: str
) -> None:
    """A linked directory of audio is refused, and its target stays as it is."""
    take = store.put(sound(), draft())
    store.remove([take.id])
    make_old(root)
    inside = root / part.replace("xx", take.content_hash[:2])
    inside.rename(tmp_path / "aside")
    inside.symlink_to(tmp_path / "aside")
    before = contents(tmp_path / "aside")

    with pytest.raises(StoreError, match="symbolic link"):
        store.put(sound(), draft())
    try:
        gc(root, yes=True)
    except StoreError as err:
        assert "symbolic link" in str(err)  # noqa: PT017  # for the link to all audio

    assert contents(tmp_path / "aside") == before
