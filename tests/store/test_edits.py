from __future__ import annotations

import binascii
import json
import os
import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from musicgen_cli.errors import (
    AmbiguousIdError,
    ArtifactNotFoundError,
    DamagedError,
    InvalidValueError,
    NewerStoreError,
    NotFoundError,
    StoreError,
)
from musicgen_cli.store import Filter, Store
from tests.store.test_store import at_the_lock, finished, python
from tests.support.index_lines import delete, draft, head, name, put, sealed, sound, tag

A, B, C = (name(i) for i in (0xA1111, 0xA2222, 0xB))


def lines_of(root) -> list[bytes]:
    return (root / "index.jsonl").read_bytes().splitlines(keepends=True)


def test_a_tag_line_is_as_the_format_says(store, root):
    """TAB, members in order, the offset of the put, only what changes, and a checksum."""
    take = store.put(sound(), draft(tags=("a", "b")))
    before = (root / "index.jsonl").read_bytes()

    (after,) = store.tag([take.id], add=["c", "a"], rm=["b", "nowhere"])

    line = (root / "index.jsonl").read_bytes().removeprefix(before)
    said = json.loads(line)
    assert [*said] == ["op", "id", "at", "t", "add", "rm", "crc"]
    assert (said["op"], said["id"], said["add"], said["rm"]) == ("tag", take.id, ["c"], ["b"])
    assert before[said["at"] :].startswith(b'{"op":"put","id":"' + take.id.encode())
    assert abs((datetime.fromisoformat(said["t"]) - datetime.now(UTC)).total_seconds()) < 60
    assert line.startswith(b'\t{"op":')
    assert said["crc"] == f"{binascii.crc32(line[:-19]):08x}"
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
def test_tags_are_taken_off_and_then_added(store, index, add, rm, tags):
    """In the order of the format, each once, in the one form in which they are stored."""
    index(head(), put(A, tags=["a", "b"]))

    assert [take.tags for take in store.tag([A], add=add, rm=rm)] == [tags]
    assert store.get(A).tags == tags


def test_an_accented_tag_is_taken_off_however_it_is_typed(store, index):
    """One accent has two spellings."""
    index(head(), put(A, tags=["\u00e9"]))

    assert store.tag([A], rm=[unicodedata.normalize("NFD", "\u00e9")])[0].tags == ()


def test_what_changes_nothing_writes_nothing(store, index, root):
    """Of several takes, only those get a line that need one."""
    index(head(), put(A, tags=["a"]), put(B, tags=["b"]))
    before = lines_of(root)

    store.tag([A], add=["a"], rm=["x"])
    assert lines_of(root) == before
    assert [take.tags for take in store.tag([A, B], add=["a"])] == [("a",), ("b", "a")]

    assert len(lines_of(root)) == len(before) + 1


def test_ids_are_taken_in_any_form_and_each_once(store, index):
    """Whole, cut, `last`; in the order in which they were named first."""
    index(head(), put(A), put(B), put(C))

    assert [take.id for take in store.tag(["last", A, B[:20], A.removeprefix("artifact_"), C], add=["x"])] == [C, A, B]
    assert [take.id for take in store.newest(None, Filter(tags=("x",)))] == [C, B, A]


@pytest.mark.parametrize("edit", [Store.remove, lambda store, ids: store.tag(ids, add=["x"])])
@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        (name(7), ArtifactNotFoundError),
        (name(9), ArtifactNotFoundError),
        ("nothing", ArtifactNotFoundError),
        ("0000000a", AmbiguousIdError),
    ],
)
def test_one_wrong_id_leaves_all_as_it_was(store, index, root, edit, wanted, error):
    """Unknown, deleted, no id at all, or ambiguous: nothing is written."""
    index(head(), put(A), put(B), put(name(9)), delete(name(9)))
    before = lines_of(root)

    with pytest.raises(error, match=wanted):
        edit(store, [A, wanted])

    assert lines_of(root) == before


@pytest.mark.parametrize(
    "bad", ["", " x", "a,b", 'a"b', "a\\b", "-x", "a\nb", "a\x1bb", "\u202ex", "x" * 129, "\ud800"]
)
def test_what_is_no_tag_is_refused(store, index, root, bad):
    """Nothing is written, also to takes that came first."""
    index(head(), put(A))
    before = lines_of(root)

    with pytest.raises(InvalidValueError):
        store.tag([A], add=["good", bad])
    store.tag([A], rm=[bad])

    assert lines_of(root) == before


def test_a_take_has_at_most_64_tags(store, index, root):
    """Those that go make room; one take too full keeps all from changing."""
    index(head(), put(A, tags=[f"t{i}" for i in range(63)]), put(B))
    before = lines_of(root)

    with pytest.raises(InvalidValueError, match=f"{A} would have 65 tags"):
        store.tag([B, A], add=["x", "y"])
    assert lines_of(root) == before
    assert len(store.tag([A], add=["x", "y"], rm=["t0"])[0].tags) == 64


def test_tags_that_would_make_a_record_too_long_are_refused(store, index, root):
    """A compaction, which writes the record anew with its tags, must never fail for a tag."""
    index(head(), put(A, params={"x": "y" * 65_000}))
    before = lines_of(root)

    with pytest.raises(InvalidValueError, match="at most 65536"):
        store.tag([A], add=["t" * 128, "u" * 128])

    assert lines_of(root) == before


def test_a_removed_take_is_listed_nowhere_and_its_audio_stays(store, root):
    """One `del` line; a twin with the same audio is untouched."""
    take, twin = store.put(sound(), draft()), store.put(sound(), draft())

    assert store.remove([take.id]) == [take]

    assert list(store.newest(None)) == [twin]
    assert [*json.loads(lines_of(root)[-1])] == ["op", "id", "at", "t", "crc"]
    assert store.read_blob(take) == sound()
    with pytest.raises(ArtifactNotFoundError):
        store.get(take.id)


def test_many_are_edited_in_one_write(store, index, root, monkeypatch):
    """One lock, one write: a crash leaves no half of it before the next line boundary."""
    index(head(), *(put(name(i)) for i in range(1, 500)))
    writes = []
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: writes.append(len(data)) or write(fd, data))

    store.remove([name(i) for i in range(1, 500)])

    assert len(writes) == 1
    assert list(store.newest(None)) == []
    assert len(lines_of(root)) == 999


def test_a_write_that_fails_changes_nothing(store, index, root, monkeypatch):
    """Half a write is taken back."""
    index(head(), put(A), put(B))
    before = lines_of(root)
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[: len(data) // 2]))

    with pytest.raises(StoreError, match="bytes could be written"):
        store.remove([A, B])

    assert lines_of(root) == before


def test_an_edit_of_no_store_makes_none(store, root):
    """Not even a folder; nor does an edit of nothing."""
    assert store.tag([], add=["a"]) == store.remove([]) == store.get_many([]) == []
    for edit in (store.remove, store.tag):
        with pytest.raises(ArtifactNotFoundError):
            edit([A])
    with pytest.raises(NotFoundError):
        store.restore("last")
    assert not root.exists()


@pytest.mark.parametrize("op", [sealed({"op": "later", "id": C}), sealed({"op": "later"}, "\t")])
def test_what_only_a_later_version_understands_stops_every_edit(store, index, root, op):
    """Even where it is about another take."""
    index(head(), put(A), put(B), delete(B), op)
    before = lines_of(root)

    for edit in (lambda: store.tag([A], add=["x"]), lambda: store.remove([A]), lambda: store.restore(B)):
        with pytest.raises(NewerStoreError):
            edit()

    assert lines_of(root) == before


def test_an_id_deeper_in_a_line_is_not_edited(store, index):
    """Only a line's own id counts, in a search for one as in a search for several."""
    index(head(), put(A), put(B), put(C, extra={"id": A}, tags=["c"]), sealed({"op": "x-", "id": [A]}))

    assert store.tag([A], add=["x"])[0].tags == ("type:audio", "x")
    assert [take.id for take in store.remove([A, B])] == [A, B]
    assert store.get("last").tags == ("c",)


def test_an_edit_by_another_while_we_waited_is_seen(store, index, monkeypatch):
    """What was appended since the look-up counts under the lock."""
    path = index(head(), put(A, tags=["a"]))

    def another() -> None:
        with path.open("ab") as file:
            file.write(tag(A, add=("theirs",), rm=("a",)))

    at_the_lock(monkeypatch, another)

    assert store.tag([A], add=["ours", "a"])[0].tags == ("theirs", "ours", "a")
    assert store.get(A).tags == ("theirs", "ours", "a")


@pytest.mark.parametrize("edit", [Store.remove, lambda store, ids: store.tag(ids, add=["x"])])
def test_a_take_removed_while_we_waited_is_not_edited(store, index, monkeypatch, edit):
    """And the others of the same command stay as they are."""
    path = index(head(), put(A), put(B))

    def another() -> None:
        with path.open("ab") as file:
            file.write(delete(A))

    at_the_lock(monkeypatch, another)

    with pytest.raises(ArtifactNotFoundError):
        edit(store, [B, A])

    assert path.read_bytes() == head() + put(A) + put(B) + delete(A)


@pytest.mark.parametrize("first", [head(gen="f" * 16), b"", b"damaged\n"])
@pytest.mark.parametrize("old", [head(), b"", b"damaged\n"])
def test_an_index_that_was_rewritten_while_we_waited_is_searched_anew(store, index, root, monkeypatch, first, old):
    """A new generation, or one that can't be known: `at` is where the put stands now, and its tags are those there."""
    path = index(old, put(B), put(A), tag(A, add=("gone",)))

    def compact() -> None:
        (root / "new").write_bytes(first + put(C) + put(A, tags=["there"]) + b"".join(put(name(i)) for i in range(9)))
        (root / "new").replace(path)

    at_the_lock(monkeypatch, compact)

    assert store.tag([A], add=["x"])[0].tags == ("there", "x")
    data = path.read_bytes()
    assert data[json.loads(lines_of(root)[-1])["at"] :].startswith(put(A, tags=["there"]))
    assert store.get(A).tags == ("there", "x")


def test_a_take_compacted_away_while_we_waited_is_not_found(store, index, root, monkeypatch):
    """It was removed, and the line that said so is gone, too."""
    path = index(head(), put(A), put(B))

    def compact() -> None:
        (root / "new").write_bytes(head(gen="f" * 16) + put(B))
        (root / "new").replace(path)

    at_the_lock(monkeypatch, compact)

    with pytest.raises(ArtifactNotFoundError):
        store.tag([A], add=["x"])

    assert path.read_bytes() == head(gen="f" * 16) + put(B)


def test_a_removed_take_comes_back_whole(store):
    """The same id, its tags as they were, all its members; it is the newest then."""
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


def test_only_what_is_removed_comes_back(store, root):
    """Twice is an error, as is a take that lives or never was; nothing is written."""
    take, other = store.put(sound(), draft()), store.put(sound(1), draft())
    with pytest.raises(NotFoundError, match="no removed take matches 'last'"):
        store.restore("last")
    store.remove([take.id])
    store.restore(take.id)
    before = lines_of(root)

    for wanted in (take.id, take.id[9:14], other.id):
        with pytest.raises(NotFoundError, match="is not removed"):
            store.restore(wanted)
    for wanted in ("last", A, "nothing", ""):
        with pytest.raises(NotFoundError, match=f"no removed take matches '{wanted}'"):
            store.restore(wanted)

    assert lines_of(root) == before


def test_last_is_the_one_that_was_removed_last(store):
    """And then the one before it: an undo for each removal, in turn."""
    takes = [store.put(sound(i), draft()) for i in range(3)]
    for i in (1, 0, 2):
        store.remove([takes[i].id])

    assert [store.restore("last").id for _ in takes] == [takes[i].id for i in (2, 0, 1)]


def test_a_start_finds_among_the_removed(store, index, root):
    """A living take with the same start is no ambiguity; two removed ones are."""
    index(head(), put(A), put(B), delete(A), delete(B))
    with pytest.raises(AmbiguousIdError) as caught:
        store.restore("0000000a")
    assert caught.value.candidates == [A, B]

    take = store.put(sound(), draft())
    store.remove([take.id])
    twin = store.put(sound(), draft())
    assert twin.id.startswith(take.id)
    assert store.restore(take.id[:15]) == take


@pytest.mark.parametrize("harm", ["missing", "wrong", "taken by a clean-up at the lock"])
def test_a_take_without_its_audio_does_not_come_back(store, root, monkeypatch, harm):
    """It would be listed and not playable."""
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
        at_the_lock(monkeypatch, blob.unlink)

    with pytest.raises(DamagedError):
        store.restore(take.id)

    assert lines_of(root) == before


@pytest.mark.parametrize("how", ["another process", "a compaction"])
def test_what_happened_to_a_removed_take_while_we_waited_counts(store, root, monkeypatch, how):
    """Brought back by somebody else, or forgotten: it is not brought back a second time."""
    take = store.put(sound(), draft())
    store.remove([take.id])
    path = root / "index.jsonl"

    def meanwhile() -> None:
        if how == "another process":
            Store(root).restore(take.id)
        else:
            path.write_bytes(head(gen="f" * 16))

    at_the_lock(monkeypatch, meanwhile)

    with pytest.raises(NotFoundError):
        store.restore(take.id)

    assert len(list(store.newest(None))) == (how == "another process")


STEPS = st.lists(
    st.tuples(st.sampled_from(["tag", "untag", "remove", "restore"]), st.integers(0, 2), st.sampled_from("xyz")),
    max_size=12,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_edits_in_any_order_are_what_a_list_would_say(tmp_path_factory, steps):
    """Listing, finding by tag and finding by id agree with a few lines of Python."""
    store = Store(tmp_path_factory.mktemp("s") / "s")
    ids = [store.put(sound(i), draft(tags=())).id for i in range(3)]
    live: list[tuple[str, list[str]]] = [(each, []) for each in reversed(ids)]  # the newest first
    gone: dict[str, list[str]] = {}
    for op, which, letter in steps:
        wanted = ids[which]
        tags = dict(live).get(wanted)
        if op == "restore" and tags is None:
            assert [*store.restore(wanted).tags] == gone[wanted]
            live.insert(0, (wanted, gone.pop(wanted)))
        elif tags is None or op == "restore":
            with pytest.raises(NotFoundError):
                store.restore(wanted) if op == "restore" else store.tag([wanted], add=[letter])
        elif op == "remove":
            store.remove([wanted])
            live.remove((wanted, tags))
            gone[wanted] = tags
        elif op == "tag":
            store.tag([wanted], add=[letter])
            tags += [letter] * (letter not in tags)
        else:
            store.tag([wanted], rm=[letter])
            tags[:] = [tag for tag in tags if tag != letter]

    assert [(take.id, [*take.tags]) for take in store.newest(None)] == live
    for letter in "xyz":
        found = [take.id for take in store.newest(None, Filter(tags=(letter,)))]
        assert found == [each for each, tags in live if letter in tags]
    for each, tags in live:
        assert [*store.get(each).tags] == tags


TAG = """
import sys
from pathlib import Path
from musicgen_cli.errors import ArtifactNotFoundError
from musicgen_cli.store import Store
root, wanted, who = sys.argv[1:]
for i in range(50):
    try:
        Store(Path(root)).tag([wanted], add=[f"{who}{i}"], rm=[f"{who}{i - 1}"] if i % 2 == 0 else [])
        print(f"{who}{i}", flush=True)
    except ArtifactNotFoundError:
        pass
"""
FLICKER = """
import sys
from pathlib import Path
from musicgen_cli.store import Store
store = Store(Path(sys.argv[1]))
for _ in range(25):
    store.remove([sys.argv[2]])
    store.restore(sys.argv[2])
"""


def test_two_processes_that_tag_one_take_lose_nothing(store, root):
    """Fifty edits each, which add fifty tags and take half of them away again."""
    take = store.put(sound(), draft(tags=()))
    for code, _, err in [finished(program) for program in [python(TAG, root, take.id, who) for who in "ab"]]:
        assert (code, err) == (0, "")

    tags = store.get(take.id).tags

    for who in "ab":
        assert [tag for tag in tags if tag[0] == who] == [f"{who}{i}" for i in (*range(0, 50, 2), 49)]
    assert store.stats().lines == 102
    assert store.stats().bad_lines == 0


def test_a_tag_that_was_given_while_a_take_came_and_went_is_kept(store, root):
    """Whoever is told that a tag is there finds it, however often the take was removed and brought back meanwhile."""
    take = store.put(sound(), draft(tags=()))
    tagging, flickering = python(TAG, root, take.id, "a"), python(FLICKER, root, take.id)
    assert finished(flickering)[::2] == (0, "")
    code, told, err = finished(tagging)
    assert (code, err) == (0, "")

    (kept,) = store.newest(None)

    given = [f"a{i}" for i in range(50)]
    told = told.split()
    # A tag was taken away by the edit after it, if that one came through.
    gone = {f"a{int(each[1:]) - 1}" for each in told if int(each[1:]) % 2 == 0}
    assert [*kept.tags] == [each for each in given if each in told and each not in gone]
