from __future__ import annotations

import binascii
import json
import os
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from musicgen_cli.errors import (
    AmbiguousIdError,
    ArtifactNotFoundError,
    InvalidValueError,
    MusicgenError,
    NewerStoreError,
    NotFoundError,
    StoreError,
)
from musicgen_cli.store import Filter, Store
from tests.support.index_lines import WriteIndex, delete, draft, head, lines_of, name, put, sealed, sound, tag
from tests.support.other_processes import before_next_lock

A, B, C = (name(i) for i in (0xA1111, 0xA2222, 0xB))

Edit = Callable[[Store, list[str]], object]


def test_a_tag_line_has_the_form_that_the_format_defines(store: Store, root: Path) -> None:
    """It has a TAB, the members in order, the offset of the put, only actual changes, and a checksum."""
    take = store.put(sound(), draft(tags=("a", "b")))
    before = (root / "index.jsonl").read_bytes()

    (after,) = store.tag([take.id], add=["c", "a"], rm=["b", "nowhere"])

    line = (root / "index.jsonl").read_bytes().removeprefix(before)
    record = json.loads(line)
    assert [*record] == ["op", "id", "at", "t", "add", "rm", "crc"]
    assert (record["op"], record["id"], record["add"], record["rm"]) == ("tag", take.id, ["c"], ["b"])
    assert before[record["at"] :].startswith(b'{"op":"put","id":"' + take.id.encode())
    assert abs((datetime.fromisoformat(record["t"]) - datetime.now(UTC)).total_seconds()) < 60
    assert line.startswith(b'\t{"op":')
    assert record["crc"] == f"{binascii.crc32(line[:-19]):08x}"
    assert after.tags == ("a", "c")
    assert store.get(take.id) == after


@pytest.mark.parametrize(
    ("add", "rm", "tags"),
    [
        (["c"], [], ("a", "b", "c")),
        (["c", "c", "b"], [], ("a", "b", "c")),
        ([], ["a", "b"], ()),
        (["a"], ["a"], ("b", "a")),
        (["e\u0301"], [], ("a", "b", "\u00e9")),
        (["c"], ["a"], ("b", "c")),
    ],
)
def test_tags_are_removed_and_then_added(
    store: Store, index: WriteIndex, add: list[str], rm: list[str], tags: tuple[str, ...]
) -> None:
    """They are in the order that the format defines, without repeats, in NFC."""
    index(head(), put(A, tags=["a", "b"]))

    assert [take.tags for take in store.tag([A], add=add, rm=rm)] == [tags]
    assert store.get(A).tags == tags


def test_an_accented_tag_is_removed_in_either_spelling(store: Store, index: WriteIndex) -> None:
    """Tags to remove are converted to NFC, too."""
    index(head(), put(A, tags=["\u00e9"]))

    assert store.tag([A], rm=[unicodedata.normalize("NFD", "\u00e9")])[0].tags == ()


def test_an_edit_that_changes_nothing_writes_nothing(store: Store, index: WriteIndex, root: Path) -> None:
    """Of several takes, only those that change get a line."""
    index(head(), put(A, tags=["a"]), put(B, tags=["b"]))
    before = lines_of(root)

    store.tag([A], add=["a"], rm=["x"])
    assert lines_of(root) == before
    assert [take.tags for take in store.tag([A, B], add=["a"])] == [("a",), ("b", "a")]

    assert len(lines_of(root)) == len(before) + 1


def test_ids_are_accepted_in_any_form_and_without_repeats(store: Store, index: WriteIndex) -> None:
    """They are complete, shortened or `last`; the result is in the order in which they first occur."""
    index(head(), put(A), put(B), put(C))

    assert [take.id for take in store.tag(["last", A, B[:20], A.removeprefix("artifact_"), C], add=["x"])] == [C, A, B]
    assert [take.id for take in store.newest(None, Filter(tags=("x",)))] == [C, B, A]


@pytest.mark.parametrize("edit", [Store.remove, lambda store, ids: store.tag(ids, add=["x"])])
@pytest.mark.parametrize(
    ("ref", "error"),
    [
        (name(7), ArtifactNotFoundError),
        (name(9), ArtifactNotFoundError),
        ("nothing", ArtifactNotFoundError),
        ("0000000a", AmbiguousIdError),
    ],
)
def test_one_wrong_id_prevents_the_whole_edit(
    store: Store, index: WriteIndex, root: Path, edit: Edit, ref: str, error: type[MusicgenError]
) -> None:
    """For an unknown, removed, malformed or ambiguous id, nothing is written."""
    index(head(), put(A), put(B), put(name(9)), delete(name(9)))
    before = lines_of(root)

    with pytest.raises(error, match=ref):
        edit(store, [A, ref])

    assert lines_of(root) == before


@pytest.mark.parametrize(
    "bad", ["", " x", "a,b", 'a"b', "a\\b", "-x", "a\nb", "a\x1bb", "\u202ex", "x" * 129, "\ud800"]
)
def test_an_invalid_tag_is_refused(store: Store, index: WriteIndex, root: Path, bad: str) -> None:
    """Nothing is written; an invalid tag to remove is ignored."""
    index(head(), put(A))
    before = lines_of(root)

    with pytest.raises(InvalidValueError):
        store.tag([A], add=["good", bad])
    store.tag([A], rm=[bad])

    assert lines_of(root) == before


def test_a_take_has_at_most_64_tags(store: Store, index: WriteIndex, root: Path) -> None:
    """Removed tags make room; if one take would have too many, none is changed."""
    index(head(), put(A, tags=[f"t{i}" for i in range(63)]), put(B))
    before = lines_of(root)

    with pytest.raises(InvalidValueError, match=f"{A} would have 65 tags"):
        store.tag([B, A], add=["x", "y"])
    assert lines_of(root) == before
    assert len(store.tag([A], add=["x", "y"], rm=["t0"])[0].tags) == 64


def test_tags_that_would_make_a_record_too_long_are_refused(store: Store, index: WriteIndex, root: Path) -> None:
    """A compaction writes the record with its new tags, and must not fail."""
    index(head(), put(A, params={"x": "y" * 65_000}))
    before = lines_of(root)

    with pytest.raises(InvalidValueError, match="at most 65536"):
        store.tag([A], add=["t" * 128, "u" * 128])

    assert lines_of(root) == before


def test_a_removed_take_is_not_listed_and_its_audio_stays(store: Store, root: Path) -> None:
    """The removal is one `del` line; another take with the same audio stays."""
    take, twin = store.put(sound(), draft()), store.put(sound(), draft())

    assert store.remove([take.id]) == [take]

    assert list(store.newest(None)) == [twin]
    assert [*json.loads(lines_of(root)[-1])] == ["op", "id", "at", "t", "crc"]
    assert store.read_blob(take) == sound()
    with pytest.raises(ArtifactNotFoundError):
        store.get(take.id)


def test_many_takes_are_edited_with_one_write(
    store: Store, index: WriteIndex, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All lines of an edit are one write under one lock."""
    index(head(), *(put(name(i)) for i in range(1, 500)))
    writes: list[int] = []
    write = os.write

    def record(fd: int, data: bytes) -> int:
        writes.append(len(data))
        return write(fd, data)

    monkeypatch.setattr(os, "write", record)

    store.remove([name(i) for i in range(1, 500)])

    assert len(writes) == 1
    assert list(store.newest(None)) == []
    assert len(lines_of(root)) == 999


def test_an_edit_that_cannot_be_written_is_undone(
    store: Store, index: WriteIndex, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The written part is removed again."""
    index(head(), put(A), put(B))
    before = lines_of(root)
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[: len(data) // 2]))

    with pytest.raises(StoreError, match="bytes could be written"):
        store.remove([A, B])

    assert lines_of(root) == before


def test_an_edit_makes_no_store(store: Store, root: Path) -> None:
    """Neither an edit of an unknown take nor an edit of no take makes a directory."""
    assert store.tag([], add=["a"]) == store.remove([]) == store.get_many([]) == []
    for edit in (store.remove, store.tag):
        with pytest.raises(ArtifactNotFoundError):
            edit([A])
    with pytest.raises(NotFoundError):
        store.restore("last")
    assert not root.exists()


@pytest.mark.parametrize("op", [sealed({"op": "later", "id": C}), sealed({"op": "later"}, "\t")])
def test_a_line_of_a_newer_version_stops_every_edit(store: Store, index: WriteIndex, root: Path, op: bytes) -> None:
    """The edit stops even if the line is about another take."""
    index(head(), put(A), put(B), delete(B), op)
    before = lines_of(root)

    edits: list[Callable[[], object]] = [
        lambda: store.tag([A], add=["x"]),
        lambda: store.remove([A]),
        lambda: store.restore(B),
    ]
    for edit in edits:
        with pytest.raises(NewerStoreError):
            edit()

    assert lines_of(root) == before


def test_an_id_in_another_value_is_not_edited(store: Store, index: WriteIndex) -> None:
    """Only the member `id` of a line counts, in a search for one id or for several."""
    index(head(), put(A), put(B), put(C, extra={"id": A}, tags=["c"]), sealed({"op": "x-", "id": [A]}))

    assert store.tag([A], add=["x"])[0].tags == ("type:audio", "x")
    assert [take.id for take in store.remove([A, B])] == [A, B]
    assert store.get("last").tags == ("c",)


def test_an_edit_made_while_waiting_for_the_lock_is_seen(
    store: Store, index: WriteIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines that were appended since the search are applied under the lock."""
    path = index(head(), put(A, tags=["a"]))

    def another() -> None:
        with path.open("ab") as file:
            file.write(tag(A, add=("theirs",), rm=("a",)))

    before_next_lock(monkeypatch, another)

    assert store.tag([A], add=["ours", "a"])[0].tags == ("theirs", "ours", "a")
    assert store.get(A).tags == ("theirs", "ours", "a")


@pytest.mark.parametrize("edit", [Store.remove, lambda store, ids: store.tag(ids, add=["x"])])
def test_a_take_removed_while_waiting_for_the_lock_is_not_edited(
    store: Store, index: WriteIndex, monkeypatch: pytest.MonkeyPatch, edit: Edit
) -> None:
    """The other takes of the same edit stay as they are."""
    path = index(head(), put(A), put(B))

    def another() -> None:
        with path.open("ab") as file:
            file.write(delete(A))

    before_next_lock(monkeypatch, another)

    with pytest.raises(ArtifactNotFoundError):
        edit(store, [B, A])

    assert path.read_bytes() == head() + put(A) + put(B) + delete(A)


@pytest.mark.parametrize("first", [head(gen="f" * 16), b"", b"damaged\n"])
@pytest.mark.parametrize("old", [head(), b"", b"damaged\n"])
def test_an_index_rewritten_while_waiting_for_the_lock_is_searched_anew(
    store: Store, index: WriteIndex, root: Path, monkeypatch: pytest.MonkeyPatch, first: bytes, old: bytes
) -> None:
    """If the generation is new or unknown, the offset and the tags are those in the new file."""
    path = index(old, put(B), put(A), tag(A, add=("gone",)))

    def compact() -> None:
        (root / "new").write_bytes(first + put(C) + put(A, tags=["there"]) + b"".join(put(name(i)) for i in range(9)))
        (root / "new").replace(path)

    before_next_lock(monkeypatch, compact)

    assert store.tag([A], add=["x"])[0].tags == ("there", "x")
    data = path.read_bytes()
    assert data[json.loads(lines_of(root)[-1])["at"] :].startswith(put(A, tags=["there"]))
    assert store.get(A).tags == ("there", "x")


def test_a_take_compacted_away_while_waiting_for_the_lock_is_not_found(
    store: Store, index: WriteIndex, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was removed, and its lines are no longer in the index."""
    path = index(head(), put(A), put(B))

    def compact() -> None:
        (root / "new").write_bytes(head(gen="f" * 16) + put(B))
        (root / "new").replace(path)

    before_next_lock(monkeypatch, compact)

    with pytest.raises(ArtifactNotFoundError):
        store.tag([A], add=["x"])

    assert path.read_bytes() == head(gen="f" * 16) + put(B)


STEPS = st.lists(
    st.tuples(st.sampled_from(["tag", "untag", "remove", "restore"]), st.integers(0, 2), st.sampled_from("xyz")),
    max_size=12,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_edits_in_any_order_agree_with_a_simple_model(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, str]]
) -> None:
    """Listing, filtering by tag and finding by id agree with a list in memory."""
    store = Store(tmp_path_factory.mktemp("s") / "s")
    ids = [store.put(sound(i), draft(tags=())).id for i in range(3)]
    live: list[tuple[str, list[str]]] = [(each, []) for each in reversed(ids)]  # the newest first
    removed: dict[str, list[str]] = {}
    for op, which, letter in steps:
        edited = ids[which]
        tags = dict(live).get(edited)
        if op == "restore" and tags is None:
            assert [*store.restore(edited).tags] == removed[edited]
            live.insert(0, (edited, removed.pop(edited)))
        elif tags is None or op == "restore":
            with pytest.raises(NotFoundError):
                store.restore(edited) if op == "restore" else store.tag([edited], add=[letter])
        elif op == "remove":
            store.remove([edited])
            live.remove((edited, tags))
            removed[edited] = tags
        elif op == "tag":
            store.tag([edited], add=[letter])
            tags += [letter] * (letter not in tags)
        else:
            store.tag([edited], rm=[letter])
            tags[:] = [tag for tag in tags if tag != letter]

    assert [(take.id, [*take.tags]) for take in store.newest(None)] == live
    for letter in "xyz":
        tagged = [take.id for take in store.newest(None, Filter(tags=(letter,)))]
        assert tagged == [each for each, tags in live if letter in tags]
    for each, tags in live:
        assert [*store.get(each).tags] == tags
