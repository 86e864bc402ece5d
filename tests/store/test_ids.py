from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from musicgen_cli.store import Store
from tests.support.index_lines import WriteIndex, delete, draft, head, name, put, sealed, sound, tag
from tests.support.other_processes import before_next_lock

HASH = hashlib.sha256(sound()).hexdigest()
ID = "artifact_" + HASH[:12]  # the first id of the sound


@pytest.mark.parametrize(
    ("lines", "suffix"),
    [
        ([put(name(1))], ""),
        ([put(ID)], "-2"),
        ([put(ID, content_hash="0" * 64)], "-2"),
        ([put(ID), put(ID + "-2")], "-3"),
        ([put(ID), put(ID + "-3")], "-2"),
        ([put(ID + "-2")], ""),
        ([put(ID), put(ID + "-20")], "-2"),
        ([put(ID), delete(ID)], "-2"),
        ([delete(ID)], "-2"),
        ([tag(ID)], "-2"),
        ([sealed({"op": "x-", "id": ID})], "-2"),
        ([put(ID)[:-3] + b"\n"], "-2"),
        ([b'\xff "id":"' + ID.encode() + b'" \n'], "-2"),
        ([b'"id":"' + ID.encode() + b'"'], "-2"),
        ([b'"id":"' + ID.encode()], ""),
        ([b"x" * 70_000 + b'"id":"' + ID.encode() + b'"\n'], "-2"),
        ([put(name(1), prompt=f'"id":"{ID}"')], ""),
        ([put(name(1), parent_id=ID)], ""),
    ],
)
def test_an_id_that_occurs_anywhere_in_the_index_is_used(
    store: Store, index: WriteIndex, lines: list[bytes], suffix: str
) -> None:
    """It may be in a good line, a bad one, an edit or a torn tail; inside another value it does not count."""
    index(head(), *lines)

    assert store.put(sound(), draft()).id == ID + suffix
    assert store.put(sound(), draft()).id != ID + suffix


@pytest.mark.parametrize(
    ("lines", "suffix"), [([put(ID)], "-2"), ([put(ID), delete(ID)], "-2"), ([put(ID[:-6] + "0" * 6)], "")]
)
def test_a_store_that_puts_often_sees_the_ids_of_others(
    store: Store, index: WriteIndex, lines: list[bytes], suffix: str
) -> None:
    """Later puts search only new lines, or the whole index if an id there has the same first digits."""
    path = index(head())
    for seed in range(1, 6):
        store.put(sound(seed), draft())
    with path.open("ab") as file:
        file.writelines(lines)
    store.put(sound(6), draft())

    assert store.put(sound(), draft()).id == ID + suffix
    assert store.put(sound(), draft()).id != ID + suffix


def test_a_store_that_puts_often_sees_its_own_ids(store: Store) -> None:
    """When the same audio is put again and again, each take has another id."""
    assert [store.put(sound(), draft()).id for _ in range(8)] == [ID, *(f"{ID}-{n}" for n in range(2, 9))]


@pytest.mark.parametrize("first", [head(), head(gen="f" * 16), b"damaged\n"])
def test_a_replaced_index_is_searched_anew(store: Store, index: WriteIndex, first: bytes) -> None:
    """It was rewritten, or a writer undid its line, and other lines have made it as long as before."""
    path = index(head())
    for seed in range(1, 6):
        store.put(sound(seed), draft())
    before = path.read_bytes()
    last = before.splitlines(keepends=True)[-1]
    path.write_bytes(first + put(ID) + before.removeprefix(head()).removesuffix(last))
    for number in range(20):
        if path.stat().st_size < len(before):
            with path.open("ab") as file:
                file.write(put(name(number)))

    assert store.put(sound(), draft()).id == ID + "-2"


def test_different_audio_with_the_same_first_digits_is_distinguished(store: Store, index: WriteIndex) -> None:
    """The ids differ by a number, and the complete hash decides which audio is read."""
    index(head(), put(ID, content_hash=HASH[:12] + "f" * 52))

    added = store.put(sound(), draft())

    assert added.id == ID + "-2"
    assert store.read_blob(added) == sound()
    assert store.get(ID).content_hash != added.content_hash


def test_an_id_used_while_waiting_for_the_lock_is_seen(
    store: Store, index: WriteIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines that were appended since the search are searched under the lock."""
    path = index(head(), put(name(1)))

    def another() -> None:
        with path.open("ab") as file:
            file.write(put(ID))

    before_next_lock(monkeypatch, another)

    assert store.put(sound(), draft()).id == ID + "-2"


def test_an_id_in_two_parts_of_a_write_is_seen(
    store: Store, index: WriteIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first half of a line may be there at the search, and the second half under the lock."""
    line = put(ID)
    path = index(head(), put(name(1)), line[:30])

    def rest() -> None:
        with path.open("ab") as file:
            file.write(line[30:])

    before_next_lock(monkeypatch, rest)

    assert store.put(sound(), draft()).id == ID + "-2"


@pytest.mark.parametrize("first", [head(gen="f" * 16), b"", b"damaged\n"])
@pytest.mark.parametrize("old", [head(), b"", b"damaged\n"])
def test_an_index_rewritten_while_waiting_for_the_lock_is_searched_anew(
    store: Store, index: WriteIndex, monkeypatch: pytest.MonkeyPatch, root: Path, first: bytes, old: bytes
) -> None:
    """If the generation is new or unknown, the id may occur in the part that was searched before."""
    path = index(old, *(put(name(i)) for i in range(1, 9)))

    def compact() -> None:
        new = root / "new"
        new.write_bytes(first + put(ID) + b"".join(put(name(i)) for i in range(1, 20)))
        new.replace(path)

    before_next_lock(monkeypatch, compact)

    added = store.put(sound(), draft())

    assert added.id == ID + "-2"
    assert path.read_bytes().startswith(first + put(ID))
    assert store.get(added.id) == added
